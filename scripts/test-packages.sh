#!/usr/bin/env bash
# Debian packages that only tests need: the sandbox of the process engine and a browser.
# As root on Debian it installs what is missing; elsewhere it names it, and the tests that need it skip.
set -euo pipefail

missing=()
command -v bwrap >/dev/null || missing+=(bubblewrap)
command -v chromium >/dev/null || missing+=(chromium)
# Without any font the browser draws empty boxes.
[[ -n $(find /usr/share/fonts -name '*.ttf' -print -quit 2>/dev/null) ]] || missing+=(fonts-dejavu-core)
((${#missing[@]})) || exit 0

if [[ $(id -u) == 0 ]] && grep -q '^ID=debian' /etc/os-release 2>/dev/null; then
    printf 'test-packages: installing %s\n' "${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    printf 'test-packages: missing here, and only root on Debian can install them: %s\n' "${missing[*]}"
fi
