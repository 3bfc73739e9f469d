"""Images looked at: whether a base can run a class at all, and what a commit leaves out."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from lifecycle_magic.engines import docker_build
from lifecycle_magic.engines.docker_launch import ROLE
from lifecycle_magic.exception import BuildError
from lifecycle_magic.image import Image
from lifecycle_magic.instructions import unpacked
from lifecycle_magic.recipe import PipInstall

if TYPE_CHECKING:
    from docker import APIClient

_MINORS, _NO_COMMAND = 60, 125  # exit codes: 3.x is 60 + x; from 125 on they are the engine's own
_PYTHON = re.compile(r"python|conda|pypy|\buv\b(?! pip)")


# Tells the minor version by the exit code: nothing has to be read from a log.
_PROBE = f"import sys; sys.exit(sys.version_info[0] == 3 and {_MINORS} + sys.version_info[1])"


def python_minor(api: APIClient, image: str) -> int | None:
    """The minor version of the Python 3 that ``python3`` is in an image; None if none runs."""
    import docker.errors

    body = {
        "Image": image,
        "Entrypoint": ["python3", "-c", _PROBE],
        "Cmd": [],
        "User": "0:0",
        "Labels": {ROLE: "probe"},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "none", "Config": {}}},
    }
    container = api.create_container_from_config(body, None)["Id"]  # type: ignore[no-untyped-call]
    try:
        api.start(container)
        code = int(api.wait(container)["StatusCode"])
    except docker.errors.APIError as error:
        if error.is_server_error() and "exec" not in str(error.explanation):
            raise
        return None  # there is nothing by that name, or nothing that runs on this machine
    finally:
        api.remove_container(container, force=True, v=True)
    return code - _MINORS if _MINORS <= code < _NO_COMMAND else None


def check_base(image: Image, minor: int | None, arch: str, engine_arch: str) -> None:
    """Refuse a base on which no class would run, before anything is built on it.

    ``minor`` is what `python_minor` found. A step that has to do with Python may bring another one:
    then the container will tell. Raises `BuildError`.
    """
    base = repr(image).splitlines()[0]
    kernel = f"{sys.version_info.major}.{sys.version_info.minor}"
    if minor == sys.version_info.minor:
        return
    if minor is None and arch and engine_arch and arch != engine_arch:
        raise BuildError(
            f"{base} is for the platform linux/{arch}, and this engine runs linux/{engine_arch}: "
            f"name an image that is there for linux/{engine_arch}, such as Image.debian_slim(), "
            f"or remove this one (docker rmi) and pull it with --platform linux/{engine_arch}"
        )
    others = (step for step in image.steps if not isinstance(step, PipInstall))
    if any(_PYTHON.search(step.written()) for step in others):
        return
    if minor is None:
        raise BuildError(
            f"{base} has no python3 that runs, and a class needs one of Python {kernel}: use "
            f"Image.debian_slim(), or an image with it, such as python:{kernel}-slim"
        )
    raise BuildError(
        f"{base} has Python 3.{minor}, and this kernel runs Python {kernel}; code does not travel "
        f"between Python versions: use an image with Python {kernel}, such as "
        f"Image.debian_slim(), or start a kernel with Python 3.{minor}"
    )


def own_volumes(made: Mapping[str, Any]) -> list[str]:
    """Where an inspected container has volumes because its image asks for them.

    Whatever a ``VOLUME`` of the image names is one, unless something else was mounted there. What
    is written below is no part of a commit.
    """
    asked = {mount["Target"] for mount in made["HostConfig"].get("Mounts") or ()}
    return sorted(
        mount["Destination"]
        for mount in made.get("Mounts") or ()
        if mount["Type"] == "volume" and mount["Destination"] not in asked
    )


def with_volumes(
    api: APIClient, container: str, paths: list[str], committed: str, tag: str
) -> str | None:
    """Lay what a container has at ``paths`` over the image ``committed``, and tag the result.

    The id of that image, from which new containers fill their volumes; None if nothing is there.
    A file that the image has and the container removed comes back.
    """
    lines, kept = [f"FROM {committed}"], []
    with contextlib.ExitStack() as stack:
        for number, path in enumerate(paths):
            file = stack.enter_context(tempfile.TemporaryFile())
            for chunk in api.get_archive(container, path)[0]:
                file.write(chunk)
            file.seek(0)
            with tarfile.open(fileobj=file) as tar:
                tar.next()
                if tar.next() is None:  # but for the folder itself it is empty
                    continue
            kept.append((f"volume-{number}.tar", file))
            lines.append(unpacked(kept[-1][0], str(PurePosixPath(path).parent)))
        if not kept:
            return None
        context = stack.enter_context(tempfile.TemporaryFile())
        _write_context("\n".join(lines), kept, context)
        stream = api.build(
            fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True, decode=True
        )
        return docker_build.followed(stream, f"keep what lies in {', '.join(paths)}", None)


def _write_context(
    dockerfile: str, files: Sequence[tuple[str, IO[bytes]]], into: IO[bytes]
) -> None:
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        text = dockerfile.encode()
        for name, file in [("Dockerfile", io.BytesIO(text)), *files]:
            info = tarfile.TarInfo(name)
            info.size = file.seek(0, io.SEEK_END)
            file.seek(0)
            tar.addfile(info, file)
    into.seek(0)
