"""The work of every contender, ours and the peers alike, and how it is timed.

This module also runs in the peers' environment: it uses the standard library, numpy, pandas and,
for `benchmarks.payloads`, torch and Arrow.
"""

import threading
import time


def method(kind):
    """Return the method for a call: one that returns its argument or one with a new result."""
    return "negative" if kind == "new array" else "echo"


def payload(kind, size):
    """Return the argument of a call, with ``size`` bytes for an array or for ``bytes``."""
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
    if kind in _OF_LIBRARIES:
        return _OF_LIBRARIES[kind](size)
    return np.ones(size, np.uint8)  # zeros would all share one page


def _tensor(size):
    import torch

    return torch.ones(size // 4)


def _bfloat16_tensor(size):
    import torch

    return torch.ones(size // 2, dtype=torch.bfloat16)


def _state_dict(size):
    import torch

    return {f"layer {n}": torch.ones(size // 80) for n in range(20)}


def _columns(size):
    import numpy as np

    return {f"column {n}": np.ones(size // 80) for n in range(10)}


def _arrow_table(size):
    import pyarrow as pa

    return pa.table(_columns(size))


def _number_frame(size):
    import pandas as pd

    return pd.DataFrame(_columns(size))


def _polars_frame(size):
    import polars as pl

    return pl.DataFrame(_columns(size))


def _string_frame(size, dtype="str"):
    import pandas as pd

    texts = [f"a string of twenty bytes {n}" for n in range(size // 50)]
    return pd.DataFrame({"text": pd.Series(texts, dtype=dtype)})


def _object_frame(size):
    return _string_frame(size, object)


def _small_arrays(size):
    import numpy as np

    return [np.ones(1_000) for _ in range(size // 8_000)]


_OF_LIBRARIES = {
    "tensor": _tensor,
    "bfloat16 tensor": _bfloat16_tensor,
    "state dict": _state_dict,
    "Arrow table": _arrow_table,
    "number frame": _number_frame,
    "polars frame": _polars_frame,
    "string frame": _string_frame,
    "object frame": _object_frame,
    "small arrays": _small_arrays,
}


def calls(echo, value, times):
    """Return the seconds that each of ``times`` calls took."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        echo(value)
        seconds.append(time.perf_counter() - began)
    return seconds


def calls_at_once(echo, threads, times):
    """Make ``times`` calls from each of ``threads``; return a list with the seconds per call."""
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
    """Run ``map`` over that many small integers; return a list with the seconds per input."""
    began = time.perf_counter()
    results = map(range(inputs))
    took = time.perf_counter() - began
    assert list(results) == list(range(inputs))
    return [took / inputs]
