"""The files of a volume, as the kernel reaches them: through the engine that keeps the volume."""

from __future__ import annotations

import time
from collections.abc import Callable

from lifecycle_magic.engines.base import Engine, VolumeFiles
from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.host.volume_folder import VolumeFolder
from lifecycle_magic.session import session
from lifecycle_magic.volume import Volume

__all__ = ["create", "delete", "names", "open_files", "rename"]

_FIX = "Fix: check its name (lifecycle-magic volume list)"
_ENDING_SECONDS = 3.0  # a container that has ended is removed a moment later


def open_files(volume: Volume, call: str) -> VolumeFiles:
    """Return the files of a volume, which is created if it may be.

    Raises `InvalidError` for an ephemeral volume, `NotFoundError` if it does not exist.
    """
    if volume.kind == "path":
        return VolumeFolder(str(volume.path))
    if volume.name is None:
        raise InvalidError(
            f"{call}: an ephemeral volume is another folder in each container. Fix: use "
            "Volume.from_name(name), or `with Volume.ephemeral() as volume:`"
        )
    opened = session.current()
    opened.ledger.add_volumes([volume.name])
    engine = _keeper(volume.name)
    if engine is None and not volume.create_if_missing:
        raise NotFoundError(
            f"{call}: there is no volume {volume.name!r}, and create_if_missing is False. "
            "Fix: check its name, or omit create_if_missing=False"
        )
    if engine is None:
        engine = opened.engine(_wanted(volume.name))
        engine.volumes.create(volume.name)
    return engine.volumes.open(volume.name)


def names() -> list[str]:
    """Return the names of all volumes of the engines that this session uses."""
    return sorted(
        {name for engine in session.current().engines() for name in engine.volumes.names()}
    )


def create(name: str) -> None:
    """Create a volume on the session's engine unless there is one."""
    if _keeper(name) is None:
        session.current().engine(_wanted(name)).volumes.create(name)


def delete(name: str, *, missing_ok: bool = False) -> None:
    """Remove a volume and its content.

    Raises `NotFoundError` unless ``missing_ok``, and `InvalidError` if it is in use.
    """
    engine = _keeper(name)
    if engine is None:
        if missing_ok:
            return
        raise NotFoundError(f"Volume.delete: there is no volume {name!r}. {_FIX}")
    if not _when_free(lambda: engine.volumes.remove(name)):
        raise _in_use("delete", name)


def rename(old: str, new: str) -> None:
    """Rename a volume.

    Raises `NotFoundError`, and `InvalidError` if it is in use or ``new`` exists.
    """
    engine = _keeper(old)
    if engine is None:
        raise NotFoundError(f"Volume.rename: there is no volume {old!r}. {_FIX}")
    if engine.volumes.exists(new):
        raise InvalidError(
            f"Volume.rename: there is a volume {new!r} already. Fix: delete it first"
        )
    if not _when_free(lambda: engine.volumes.rename(old, new)):
        raise _in_use("rename", old)


def _wanted(name: str) -> str | None:
    """Return the engine beyond this machine whose classes use the volume ``name``; None for none.

    Each engine has volumes of its own, so a volume of one that classes of two such engines use is
    not one volume, which raises `InvalidError`.
    """
    declared = session.declared_engines(name)
    far = sorted(one for one in declared if one not in (None, "auto", "docker", "process") and one)
    if far and len(declared) > 1:
        others = sorted(one or "the default engine" for one in declared)
        raise InvalidError(
            f"the volume {name!r} is used by classes on several engines ({', '.join(others)}), and "
            "each engine has a volume of that name. Fix: give them different names"
        )
    return far[0] if far else None


def _keeper(name: str) -> Engine | None:
    """Return the engine that has the volume: the one beyond this machine whose classes use it,
    otherwise the session's own first, then others it has used.
    """
    if wanted := _wanted(name):
        engine = session.current().engine(wanted)
        return engine if engine.volumes.exists(name) else None
    return next((one for one in session.current().engines() if one.volumes.exists(name)), None)


def _when_free(change: Callable[[], bool]) -> bool:
    """Return what ``change`` returns, tried again while containers that use it may be ending."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while not (done := change()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return done


def _in_use(what: str, name: str) -> InvalidError:
    return InvalidError(
        f"Volume.{what}: the volume {name!r} is in use by a container. Fix: stop the classes that "
        "use it (app.stop(), or %lifecycle stop)"
    )
