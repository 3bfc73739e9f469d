"""Ray: one actor per process on a local Ray; a map sends inputs to the actors in turn."""

import itertools
import tempfile

import ray
from _answering import WORKERS, answer


@ray.remote
class Echo:
    def echo(self, value):
        return value

    def negative(self, value):
        return -value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        actors = [Echo.remote() for _ in range(WORKERS)]
        answer(
            lambda name, value: ray.get(getattr(actors[0], name).remote(value)),
            lambda inputs: ray.get(
                [a.echo.remote(one) for a, one in zip(itertools.cycle(actors), inputs)]
            ),
        )
        ray.shutdown()
