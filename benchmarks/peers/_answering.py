"""What every peer's program shares. It runs in their environment, not in ours."""

import json
import os
import sys
import time

import numpy as np


def answer(echo):
    """Until standard input ends: call ``echo`` as often as asked, and tell how long each took."""
    # Some peers print; that must not get between our answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        value = np.ones(asked["size"], np.uint8) if asked["size"] else 1
        seconds = []
        for _ in range(asked["times"]):
            began = time.perf_counter()
            echo(value)
            seconds.append(time.perf_counter() - began)
        out.write(json.dumps(seconds) + "\n")
        out.flush()
