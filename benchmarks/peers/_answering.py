"""The part that all peers' programs share. It runs in the peers' environment."""

import json
import os
import sys
from functools import partial

import _work

WORKERS = int(sys.argv[1])  # processes that the peer has for its work


def answer(call, map):
    """Do the work of each request on standard input and print its seconds, until the input ends.

    ``call(name, value)`` lets one warm worker ``echo`` the value or return its ``negative``;
    ``map(inputs)`` returns a list made by all workers.
    """
    # Some peers print; that must not get between our answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps("up"), file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer_line = _do(asked, call, map)
        except Exception as error:
            answer_line = f"{type(error).__name__}: {error}"
        print(json.dumps(answer_line), file=out, flush=True)


def _do(asked, call, map):
    if asked["work"] == "map":
        return [s for _ in range(asked["times"]) for s in _work.mapped(map, asked["size"])]
    if asked["work"] == "threads":
        return _work.calls_at_once(partial(call, "echo"), asked["size"], asked["times"])
    kind, size = asked["work"], asked["size"]
    return _work.calls(partial(call, _work.method(kind)), _work.payload(kind, size), asked["times"])
