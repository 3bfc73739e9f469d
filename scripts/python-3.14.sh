#!/usr/bin/env bash
# Runs tests on Python 3.14 in a container: scripts/python-3.14.sh [pytest's arguments]
#
# The image is the stand-in for python:3.14-slim that scripts/engine.sh makes from Debian's packages.
# The container has no sandbox and no Docker: the process engine runs plain processes there.
# Where no engine answers, or no image can be made, this says so and succeeds; with CI=true it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly image=python:3.14-slim
readonly name=lifecycle-magic-python-3.14-$$

if ! docker image inspect "$image" >/dev/null 2>&1 && ! scripts/engine.sh 3.14; then
    printf 'python-3.14: not run: no Docker engine answers, or %s can not be made\n' "$image"
    [[ ${CI:-} != true ]]
    exit
fi

# The host's uv and its cache make the second run quick.
mkdir -p "${UV_CACHE_DIR:=$HOME/.cache/uv}"
options=(
    --rm --interactive --name "$name" --network host
    --volume "$PWD/.venv/bin/uv:/usr/local/bin/uv:ro"
    --volume "$UV_CACHE_DIR:/root/.cache/uv" --env UV_LINK_MODE=copy
    --env LIFECYCLE_MAGIC_ENGINE=process --env CORPUS=all
)
trap 'docker rm --force "$name" >/dev/null 2>&1 || true' EXIT
git ls-files -z --cached --others --exclude-standard |
    xargs -0 -r sh -c 'for file; do [ ! -e "$file" ] || printf "%s\0" "$file"; done' sh |
    tar --null --no-recursion --files-from - --create |
    docker run "${options[@]}" "$image" bash -c '
        set -euo pipefail
        mkdir /work && cd /work && tar --extract
        uv venv --quiet --python python3 .venv
        uv pip install --quiet --python .venv/bin/python --editable ".[web,dev]"
        .venv/bin/python -m pytest -q -n 2 --dist loadgroup -m "not docker" "$@"
    ' bash "${@:-tests/unit}"
