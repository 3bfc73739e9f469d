#!/usr/bin/env bash
# Installs what js/ is built and tested with. The bundle itself is committed: only who changes js/, or
# tests it, needs Node.js. Runs again only after js/package.json changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../js"

readonly stamp=node_modules/.installed
if [[ -f $stamp && ! package.json -nt $stamp ]]; then exit 0; fi
if ! command -v npm >/dev/null; then
    printf 'js: no npm on the path; install Node.js 20 or newer to build and test js/\n' >&2
    exit 1
fi
printf 'js: installing what js/ is built and tested with\n'
npm install --no-progress --loglevel=error
touch "$stamp"
