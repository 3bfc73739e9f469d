"""The work that every contender does, ours and the peers alike, and how it is timed.

It runs in the peers' environment as well as in ours: standard library, numpy and pandas only.
"""

import threading
import time


def method(kind):
    """Which method a call is of: one that returns what it got, or one that makes something new."""
    return "negative" if kind == "new array" else "echo"


def payload(kind, size):
    """What a call sends. ``size`` is bytes of an ``array``, a ``new array`` or of ``bytes``."""
    if kind == "integer":
        return 1
    if kind == "bytes":
        return b"x" * size
    if kind == "dict":
        return {f"key {n}": f"value {n}" for n in range(10_000)}
    import numpy as np

    if kind == "frame":
        import pandas as pd

        rows = np.arange(100_000)
        names = [f"row {n}" for n in rows]
        return pd.DataFrame({"n": rows, "half": rows / 2, "square": rows**2, "name": names})
    return np.ones(size, np.uint8)  # zeros would all share one page


def calls(echo, value, times):
    """Seconds that each of ``times`` calls took."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        echo(value)
        seconds.append(time.perf_counter() - began)
    return seconds


def calls_at_once(echo, threads, times):
    """``times`` calls from each of ``threads`` at once; in a list, the seconds per call of all."""
    ready = threading.Barrier(threads + 1)
    failed = []

    def work():
        ready.wait()
        try:
            for _ in range(times):
                echo(1)
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    return [(time.perf_counter() - began) / (threads * times)]


def mapped(map, inputs):
    """``map`` over that many small integers; in a list, the seconds per input."""
    began = time.perf_counter()
    results = map(range(inputs))
    took = time.perf_counter() - began
    assert list(results) == list(range(inputs))
    return [took / inputs]
