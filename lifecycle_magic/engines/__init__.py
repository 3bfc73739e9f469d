"""What runs containers: Docker Engine, or plain processes of this machine."""

from __future__ import annotations

from lifecycle_magic.engines.base import Engine
from lifecycle_magic.exception import EngineUnavailable, InvalidError

__all__ = ["choose"]


def choose(name: str) -> tuple[Engine, str]:
    """The engine called ``name`` (auto, docker, process), checked, and a line on why it is that
    one.

    Raises `EngineUnavailable` when docker was asked for and does not answer.
    """
    from lifecycle_magic.engines.process import ProcessEngine

    engine: Engine
    if name == "process":
        engine = ProcessEngine()
        return engine, f"engine: {engine.check()}"
    if name not in ("auto", "docker"):
        raise InvalidError(
            f"LIFECYCLE_MAGIC_ENGINE={name}: the engines are auto, docker and process"
        )
    from lifecycle_magic.engines.docker import DockerEngine

    try:
        engine = DockerEngine()
        return engine, f"engine: {engine.check()}"
    except EngineUnavailable as error:
        if name == "docker":
            raise
        engine = ProcessEngine()
        return engine, f"engine: {engine.check()}, because Docker does not answer ({error})"
