#!/usr/bin/env bash
# What only tests need: large libraries in a folder of their own, and Debian packages (the sandbox of the
# process engine, a browser, Podman, PostgreSQL). As root on Debian it installs the packages that are missing; elsewhere it
# names them, and the tests that need them skip.
#
#     scripts/test-packages.sh [libraries] [debian]      default: both
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# torch, Arrow, polars and JAX, for the tests of values. They are not in .venv itself, because pandas makes
# other strings where it finds Arrow, and the containers of other tests have none.
install_libraries() {
    local folder=$PWD/.venv/test-libraries/site-packages uv=.venv/bin/uv
    [[ -x $uv && ! -e $folder ]] || return 0
    printf 'test-packages: installing libraries for tests\n'
    # Without dependencies: they would bring a second numpy. What is missing then is named here.
    local -a into=(pip install --quiet --python .venv/bin/python --no-deps --target "$folder.new")
    rm -rf "$folder.new"
    "$uv" "${into[@]}" pyarrow polars polars-runtime-32 jax jaxlib ml_dtypes opt_einsum || return 0
    # A torch for the CPU alone, where pip is configured with a folder that has one: a tenth of the size.
    local wheels=${PIP_FIND_LINKS:-}
    if [[ -n $wheels ]] && "$uv" "${into[@]}" --no-index --find-links "$wheels" torch 2>/dev/null; then
        "$uv" "${into[@]}" filelock sympy mpmath networkx fsspec jinja2 markupsafe typing_extensions || return 0
    elif [[ ${CI:-} == true ]]; then
        "$uv" pip install --quiet --python .venv/bin/python --target "$folder.new" torch || return 0
    fi
    mv "$folder.new" "$folder"
}

install_debian_packages() {
    local -a missing=()
    command -v bwrap >/dev/null || missing+=(bubblewrap)
    command -v podman >/dev/null || missing+=(podman netavark)
    command -v rootlesskit >/dev/null || missing+=(uidmap slirp4netns rootlesskit)
    [[ -x /usr/sbin/sshd ]] || missing+=(openssh-server)
    command -v docker-registry >/dev/null || missing+=(docker-registry)
    command -v chromium >/dev/null || missing+=(chromium)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    # Without any font the browser draws empty boxes.
    [[ -n $(find /usr/share/fonts -name '*.ttf' -print -quit 2>/dev/null) ]] || missing+=(fonts-dejavu-core)
    ((${#missing[@]})) || return 0

    if [[ $(id -u) == 0 ]] && grep -q '^ID=debian' /etc/os-release 2>/dev/null; then
        printf 'test-packages: installing %s\n' "${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        # Tests start a PostgreSQL of their own: the package need not make and start one.
        local clusters=/etc/postgresql-common/createcluster.conf
        if [[ " ${missing[*]} " == *" postgresql "* && ! -e $clusters ]]; then
            mkdir -p "${clusters%/*}"
            printf 'create_main_cluster = false\n' >"$clusters"
        fi
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}" >/dev/null
    else
        printf 'test-packages: missing here, and only root on Debian can install them: %s\n' "${missing[*]}"
    fi
}

(($#)) || set -- libraries debian
for part; do
    case $part in
        libraries) install_libraries ;;
        debian) install_debian_packages ;;
        *)
            printf 'test-packages: no such part: %s\n' "$part" >&2
            exit 2
            ;;
    esac
done
