"""loky: a pool of one process, reused. It keeps no state between calls."""

from _answering import answer
from loky import get_reusable_executor


def echo(value):
    return value


if __name__ == "__main__":
    executor = get_reusable_executor(max_workers=1, timeout=None)
    answer(lambda value: executor.submit(echo, value).result())
    executor.shutdown()
