"""Dask: an actor on a local cluster of worker processes; a map is a task for each input."""

import tempfile

import dask
from _answering import WORKERS, answer
from distributed import Client, LocalCluster


class Echo:
    def echo(self, value):
        return value

    def negative(self, value):
        return -value


def echo(value):
    return value


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory(prefix="dask-", ignore_cleanup_errors=True) as folder,
        dask.config.set({"temporary-directory": folder}),
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        actor = client.submit(Echo, actor=True).result()
        answer(
            lambda name, value: getattr(actor, name)(value).result(),
            lambda inputs: client.gather(client.map(echo, inputs, pure=False)),
        )
