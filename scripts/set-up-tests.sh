#!/usr/bin/env bash
# Sets up what `make test` needs, in three lines of work at once: the engine and Debian's packages, .venv
# and the libraries, and js/. Without .venv nothing can be tested; what else is missing makes its tests
# skip, and fail where CI=true.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
[[ -x $python ]] || python=${PYTHON:-python3}
minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1

# One after the other: both install packages of the distribution, which one at a time may do.
{
    scripts/engine.sh "$minor"
    scripts/test-packages.sh debian
} &
scripts/js.sh &
scripts/install.sh lab,web,dev
installed=$?
((installed)) || scripts/test-packages.sh libraries
wait
exit "$installed"
