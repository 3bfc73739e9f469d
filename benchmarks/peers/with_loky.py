"""loky: a reusable pool of processes, without state between calls."""

from _answering import WORKERS, answer
from loky import get_reusable_executor


def echo(value):
    return value


def negative(value):
    return -value


if __name__ == "__main__":
    executor = get_reusable_executor(max_workers=WORKERS, timeout=None)
    answer(
        lambda name, value: executor.submit(globals()[name], value).result(),
        lambda inputs: list(executor.map(echo, inputs)),
    )
    executor.shutdown()
