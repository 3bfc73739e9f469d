"""ipyparallel: engines on this machine, one called through a direct view; a map is a
load-balanced one.
"""

import ipyparallel
from _answering import WORKERS, answer


def echo(value):
    return value


if __name__ == "__main__":
    with ipyparallel.Cluster(n=WORKERS) as client:
        view = client[0]
        balanced = client.load_balanced_view()
        answer(
            lambda value: view.apply_sync(echo, value),
            lambda inputs: balanced.map_sync(echo, inputs),
        )
