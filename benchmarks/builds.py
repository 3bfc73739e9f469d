"""Making an image with a package list that nothing has yet, by pip and by uv.

What a re-run of an unchanged cell and a method-only edit cost is measured in `benchmarks.cells`.
"""

from __future__ import annotations

import contextlib
import secrets
import time

from benchmarks.figures import Figures, Sample
from lifecycle_magic.engines import choose
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.image import Image

PACKAGE = "scikit-learn"


def measure(engines: list[str]) -> Figures:
    figures = Figures()
    for name in engines:
        engine, _ = choose(name)
        fresh = Image.debian_slim().env({"ROUND": secrets.token_hex(4)})
        ways = {f"{name}, pip": fresh.pip_install(PACKAGE)}
        if name == "docker":
            ways[f"{name}, uv"] = fresh.uv_pip_install(PACKAGE)
        else:  # it has uv do what pip_install asks for
            ways = {f"{name}, uv": fresh.pip_install(PACKAGE)}
        for who, image in ways.items():
            sample = Sample(f"build: pip list of {PACKAGE}", who, (_build(engine, image),))
            figures += Figures((sample,))
    return figures


def _build(engine: Engine, image: Image) -> float:
    """Seconds to make the image; it is removed afterwards."""
    key = secrets.token_hex(32)
    began = time.perf_counter()
    built = engine.build(image, key, lambda _: None)
    took = time.perf_counter() - began
    if engine.name == "docker":
        import docker

        with contextlib.closing(docker.from_env()) as client:
            client.images.remove(built, force=True)
    return took
