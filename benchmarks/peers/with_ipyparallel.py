"""ipyparallel: one engine on this machine, called through a direct view."""

import ipyparallel
from _answering import answer


def echo(value):
    return value


if __name__ == "__main__":
    with ipyparallel.Cluster(n=1) as client:
        view = client[0]
        answer(lambda value: view.apply_sync(echo, value))
