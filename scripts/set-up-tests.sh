#!/usr/bin/env bash
# Sets up what `make test` needs, in four lines of work at once: the engine, Debian's packages, .venv with
# the libraries, and js/. Without .venv nothing can be tested; what else is missing makes its tests skip,
# and fail where CI=true.
#
#     scripts/set-up-tests.sh [machine]     machine: all but .venv and the libraries
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
[[ -x $python ]] || python=${PYTHON:-python3}
minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1

{
    # One after the other: both install packages of the distribution, which one at a time may do.
    scripts/engine.sh packages "$minor"
    scripts/test-packages.sh debian &
    scripts/engine.sh "$minor"
    wait
} &
scripts/js.sh &
installed=0
if [[ ${1:-} != machine ]]; then
    scripts/install.sh lab,web,dev
    installed=$?
    ((installed)) || scripts/test-packages.sh libraries
fi
wait
exit "$installed"
