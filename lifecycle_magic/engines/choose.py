"""The choice of an engine: the one that was asked for, otherwise the one that answers."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from lifecycle_magic.engines.base import Engine
from lifecycle_magic.exception import EngineUnavailable, InvalidError

if TYPE_CHECKING:
    from lifecycle_magic.engines.docker.address import Fixed
    from lifecycle_magic.engines.docker.engine import DockerEngine
    from lifecycle_magic.engines.process.engine import ProcessEngine
    from lifecycle_magic.engines.swarm.engine import SwarmEngine

__all__ = ["choose", "docker_engine", "swarm_engine"]


def choose(name: str) -> tuple[Engine, str]:
    """Return the engine called ``name``, checked, and a short line on it.

    ``name`` is ``auto``, ``docker``, ``process``, ``swarm``, the address of an engine
    (``ssh://user@host``, ``tcp://host:2376``, ``swarm://manager:2376``) or the name of one of
    Docker's contexts. The line fits into 100 characters unless an address is long; `doctor` has the
    details.

    Raises `EngineUnavailable` when an engine was asked for and does not answer, and `InvalidError`
    for a name that is none.
    """
    from lifecycle_magic.engines.process.engine import ProcessEngine

    if name == "process":
        process = ProcessEngine()
        process.check()
        return process, _line(process)
    try:
        return _checked(docker_engine(name))
    except EngineUnavailable:
        if name != "auto":
            raise
        process = ProcessEngine()
        process.check()
        return process, _line(process, "no Docker engine answers")


def _checked(engine: DockerEngine) -> tuple[DockerEngine, str]:
    """Return the engine with the line on it. Raises `EngineUnavailable`."""
    try:
        return engine, f"engine: {engine.check()}"
    except BaseException:
        engine.close()  # its relay and ssh would live as long as this process
        raise


def docker_engine(name: str) -> DockerEngine:
    """Return the Docker engine called ``name``, as in `choose`, which was not asked yet.

    For ``auto``, ``docker`` and ``swarm`` it is the one that Docker's own variables name. A context
    that leads to a manager of several nodes stands for their swarm.
    """
    from lifecycle_magic.engines.docker import address
    from lifecycle_magic.engines.docker.engine import DockerEngine
    from lifecycle_magic.engines.relay.locations import FarLocation

    if name == "swarm" or name.startswith("swarm://"):
        return swarm_engine(name)
    if name in ("auto", "docker"):
        chosen = address.of_environment()
        if not address.is_far(chosen.url):
            return DockerEngine()
        try:
            return DockerEngine("docker", FarLocation(chosen))
        except InvalidError as error:
            raise EngineUnavailable(f"DOCKER_HOST can't be used: {error}") from None
    if "://" in name:
        return DockerEngine(name, FarLocation(address.Fixed(name, address.tls_files(name))))
    found = address.of_context(name)
    if found is None:
        raise InvalidError(
            f"engine={name!r} is unknown: it is no context of Docker's (docker context ls shows "
            "them). Fix: write auto, docker, process, swarm, ssh://user@host, tcp://host:2376 or "
            "the name of a context; LIFECYCLE_MAGIC_ENGINE takes the same names"
        )
    engine = DockerEngine(name, FarLocation(found))
    with contextlib.suppress(EngineUnavailable):  # the first use reports it
        if engine.manages_several_nodes():
            engine.close()
            return swarm_engine(name, found)
    return engine


def swarm_engine(name: str, found: Fixed | None = None) -> SwarmEngine:
    """Return the engine of the swarm that a manager at ``found``, or that ``name`` gives, is in."""
    from lifecycle_magic.engines.docker import address
    from lifecycle_magic.engines.relay.locations import FarLocation
    from lifecycle_magic.engines.swarm.engine import SwarmEngine

    if found is None and name == "swarm":
        found = address.of_environment()
    elif found is None:
        where = name.removeprefix("swarm://").rstrip("/")
        url = f"tcp://{where}" if re.search(r":\d+\Z", where) else f"tcp://{where}:2376"
        found = address.of_context(where) or address.Fixed(url, address.tls_files(url))
    return SwarmEngine(name, FarLocation(found))


def _line(engine: ProcessEngine, because: str = "") -> str:
    notice = f"engine: {engine.brief()}"
    notice += f", because {because}" if because else ""
    return notice if engine.sandboxed and not because else f"{notice}; details: doctor"
