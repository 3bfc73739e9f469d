#!/usr/bin/env bash
# Makes .venv and installs this package into it with the given extras: scripts/install.sh lab,web,dev
#
# A stamp per set of extras makes the second run quick; a changed pyproject.toml makes it stale.
# PYTHON names another interpreter than python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly extras=$1
readonly python=${PYTHON:-python3}
readonly stamp=.venv/.installed-$extras

die() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

is_fresh() { [[ -f $1 && ! pyproject.toml -nt $1 ]]; }
# The full set of extras holds what every smaller one asks for.
if is_fresh "$stamp" || is_fresh .venv/.installed-lab,web,dev; then exit 0; fi

at_least_310='import sys; sys.exit(sys.version_info < (3, 10))'
if ! .venv/bin/python -c "$at_least_310" 2>/dev/null; then
    command -v "$python" >/dev/null || die "no $python on the path; install Python 3.10 or newer"
    "$python" -c "$at_least_310" ||
        die "$("$python" --version) is too old: 3.10 or newer is needed; name one with PYTHON=python3.12 make …"
    rm -rf .venv
    printf 'install: making .venv with %s\n' "$("$python" --version)"
    # Debian keeps ensurepip, which venv needs for its pip, in a package of its own.
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv .venv
    elif command -v uv >/dev/null; then
        uv venv --quiet --python "$python" .venv
    else
        die "$python can't make virtual environments: install its venv module" \
            "(Debian and Ubuntu: apt-get install python3-venv) or uv, and run this again"
    fi
fi
if [[ ! -x .venv/bin/uv ]]; then
    if .venv/bin/python -c 'import pip' 2>/dev/null; then
        .venv/bin/python -m pip install -qq --disable-pip-version-check uv
    else
        uv pip install --quiet --python .venv/bin/python uv
    fi
fi
printf 'install: installing lifecycle-magic[%s]\n' "$extras"
.venv/bin/uv pip install --quiet --python .venv/bin/python -e ".[$extras]"
touch "$stamp"
