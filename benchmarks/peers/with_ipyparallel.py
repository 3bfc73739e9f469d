"""ipyparallel: local engines; a call uses a direct view, a map a load-balanced view."""

import ipyparallel
from _answering import WORKERS, answer


def echo(value):
    return value


def negative(value):
    return -value


if __name__ == "__main__":
    with ipyparallel.Cluster(n=WORKERS) as client:
        view = client[0]
        balanced = client.load_balanced_view()
        answer(
            lambda name, value: view.apply_sync(globals()[name], value),
            lambda inputs: balanced.map_sync(echo, inputs),
        )
