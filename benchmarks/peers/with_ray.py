"""Ray: an actor in a process of its own, on a local Ray of one core."""

import tempfile

import ray
from _answering import answer


@ray.remote
class Echo:
    def echo(self, value):
        return value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        actor = Echo.remote()
        answer(lambda value: ray.get(actor.echo.remote(value)))
        ray.shutdown()
