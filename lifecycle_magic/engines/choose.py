"""The choice of an engine: the one that was asked for, otherwise the one that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle_magic.engines.base import Engine
from lifecycle_magic.exception import EngineUnavailable, InvalidError

if TYPE_CHECKING:
    from lifecycle_magic.engines.process.engine import ProcessEngine

__all__ = ["choose"]


def choose(name: str) -> tuple[Engine, str]:
    """Return the engine called ``name`` (auto, docker, process), checked, and a short line on it.

    The line fits into 100 characters; `doctor` has the details.

    Raises `EngineUnavailable` when docker was asked for and does not answer.
    """
    from lifecycle_magic.engines.process.engine import ProcessEngine

    engine: Engine
    if name == "process":
        engine = ProcessEngine()
        engine.check()
        return engine, _line(engine)
    if name not in ("auto", "docker"):
        raise InvalidError(
            f"LIFECYCLE_MAGIC_ENGINE={name}: the engines are auto, docker and process"
        )
    from lifecycle_magic.engines.docker.engine import DockerEngine

    try:
        engine = DockerEngine()
        return engine, f"engine: {engine.check()}"
    except EngineUnavailable:
        if name == "docker":
            raise
        engine = ProcessEngine()
        engine.check()
        return engine, _line(engine, "no Docker engine answers")


def _line(engine: ProcessEngine, because: str = "") -> str:
    told = f"engine: {engine.brief()}"
    told += f", because {because}" if because else ""
    return told if engine.sandboxed and not because else f"{told}; details: doctor"
