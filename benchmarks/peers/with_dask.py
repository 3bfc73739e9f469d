"""Dask: an actor on a local cluster of one worker process."""

import tempfile

import dask
from _answering import answer
from distributed import Client, LocalCluster


class Echo:
    def echo(self, value):
        return value


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory(prefix="dask-", ignore_cleanup_errors=True) as folder,
        dask.config.set({"temporary-directory": folder}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        actor = client.submit(Echo, actor=True).result()
        answer(lambda value: actor.echo(value).result())
