"""The build of an image with a package list that is in no cache, by us and by the image's own pip.

`benchmarks.cells` measures re-runs of an unchanged cell and edits of a method only.
"""

from __future__ import annotations

import contextlib
import secrets
import time

from benchmarks.figures import Figures, Sample
from benchmarks.plan import Plan
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.engines.choose import choose
from lifecycle_magic.images.image import Image

PACKAGES = ("scikit-learn",)
QUICK = ("tomli",)


def measure(plan: Plan) -> Figures:
    figures = Figures()
    packages = QUICK if plan.quick else PACKAGES
    for name in plan.engines:
        engine, _ = choose(name)
        # Docker has its layers and uv its own cache; neither has seen this list in this image.
        fresh = Image.debian_slim().env({"ROUND": secrets.token_hex(4)})
        ways = {name: fresh.pip_install(*packages)}  # which the host's uv does
        if name == "docker":
            ways["docker, pip as a command"] = fresh.run_commands(
                f"pip install {' '.join(packages)}"
            )
        for who, image in ways.items():
            work = f"build with a changed package list ({', '.join(packages)})"
            figures += Figures((Sample(work, who, (_build(engine, image),)),))
    return figures


def _build(engine: Engine, image: Image) -> float:
    """Return the seconds to make the image; remove it afterwards."""
    key = secrets.token_hex(32)
    began = time.perf_counter()
    built = engine.build(image, key, lambda _: None)
    took = time.perf_counter() - began
    if engine.name == "docker":
        import docker

        with contextlib.closing(docker.from_env()) as client:
            client.images.remove(built, force=True)
    return took
