"""What every peer's program shares. It runs in their environment, not in ours."""

import json
import os
import sys
from functools import partial

import _work

WORKERS = int(sys.argv[1])  # processes that the peer has for its work


def answer(call, map):
    """Until standard input ends: do the work that is asked for, and tell the seconds it took.

    ``call(name, value)`` has one warm worker ``echo`` the value or return its ``negative``;
    ``map(inputs)`` returns a list, made by all of them.
    """
    # Some peers print; that must not get between our answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps("up"), file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            told = _do(asked, call, map)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        print(json.dumps(told), file=out, flush=True)


def _do(asked, call, map):
    if asked["work"] == "map":
        return [s for _ in range(asked["times"]) for s in _work.mapped(map, asked["size"])]
    if asked["work"] == "threads":
        return _work.calls_at_once(partial(call, "echo"), asked["size"], asked["times"])
    kind, size = asked["work"], asked["size"]
    return _work.calls(partial(call, _work.method(kind)), _work.payload(kind, size), asked["times"])
