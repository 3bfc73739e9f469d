"""What every peer's program shares. It runs in their environment, not in ours."""

import json
import os
import sys

import _work

WORKERS = int(sys.argv[1])  # processes that the peer has for its work


def answer(echo, map):
    """Until standard input ends: do the work that is asked for, and tell the seconds it took.

    ``echo(value)`` calls one warm worker; ``map(inputs)`` returns a list, made by all of them.
    """
    # Some peers print; that must not get between our answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps("up"), file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            told = _do(asked, echo, map)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        print(json.dumps(told), file=out, flush=True)


def _do(asked, echo, map):
    if asked["work"] == "map":
        return [s for _ in range(asked["times"]) for s in _work.mapped(map, asked["size"])]
    if asked["work"] == "threads":
        return _work.calls_at_once(echo, asked["size"], asked["times"])
    return _work.calls(echo, _work.payload(asked["work"], asked["size"]), asked["times"])
