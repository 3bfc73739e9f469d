"""The Python of an image, and whether a class can run on it."""

from __future__ import annotations

import re
import secrets
import sys
from typing import TYPE_CHECKING

from lifecycle_magic.checks import PYTHONS
from lifecycle_magic.engines.docker.api import create_container, removed
from lifecycle_magic.engines.docker.names import ROLE
from lifecycle_magic.exception import BuildError
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.package_steps import PipInstall

if TYPE_CHECKING:
    from docker import APIClient

_KERNEL = f"{sys.version_info.major}.{sys.version_info.minor}"
_MINORS, _NO_COMMAND = 60, 125  # exit codes: 3.x is 60 + x; from 125 on they are the engine's own
_PYTHON = re.compile(r"python|conda|pypy|\buv\b(?! pip)")

# Reports the minor version by the exit code: nothing has to be read from a log.
_PROBE = f"import sys; sys.exit(sys.version_info[0] == 3 and {_MINORS} + sys.version_info[1])"


# What a Python that was made elsewhere may lack libraries for.
_LIBRARIES = "import bz2, ctypes, hashlib, lzma, sqlite3, ssl, zlib"


def python_minor(api: APIClient, image: str) -> int | None:
    """Return the minor version of the image's ``python3``; None if none runs."""
    code = _exit_code(api, image, _PROBE)
    return code - _MINORS if code is not None and _MINORS <= code < _NO_COMMAND else None


def runs_well(api: APIClient, image: str) -> bool:
    """Return whether the image's ``python3`` finds the libraries that its own modules need."""
    return _exit_code(api, image, _LIBRARIES) == 0


def _exit_code(api: APIClient, image: str, program: str) -> int | None:
    """Return how a program ends that the image's ``python3`` runs; None if it can't start."""
    import docker.errors

    body = {
        "Image": image,
        "Entrypoint": ["python3", "-c", program],
        "Cmd": [],
        "User": "0:0",
        "Labels": {ROLE: "probe"},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "none", "Config": {}}},
    }
    # By its name, for an interrupt may leave one whose id was never read.
    container = f"lm-probe-{secrets.token_hex(6)}"
    try:
        create_container(api, body, container)
        api.start(container)
        return int(api.wait(container)["StatusCode"])
    except docker.errors.APIError as error:
        if error.is_server_error() and "exec" not in str(error.explanation):
            raise
        return None  # there is nothing by that name, or nothing that runs on this machine
    finally:
        removed(api.remove_container, container, force=True, v=True)


def check_base(image: Image, minor: int | None, arch: str, engine_arch: str) -> None:
    """Refuse a base on which no class would run, before anything is built on it.

    ``minor`` is what `python_minor` found. A step that has to do with Python may bring another one:
    then the container will tell. Raises `BuildError`.
    """
    base = repr(image).splitlines()[0]
    if minor is not None and f"3.{minor}" in PYTHONS:
        return
    if minor is None and arch and engine_arch and arch != engine_arch:
        raise BuildError(
            f"{base} is for the platform linux/{arch}, and this engine runs linux/{engine_arch}. "
            f"Fix: name an image that exists for linux/{engine_arch}, such as Image.debian_slim(), "
            f"or remove this one (docker rmi) and pull it with --platform linux/{engine_arch}"
        )
    others = (step for step in image.steps if not isinstance(step, PipInstall))
    if any(_PYTHON.search(step.written()) for step in others):
        return
    if minor is None:
        raise BuildError(
            f"{base} has no python3 that runs, and a class needs one. "
            "Fix: use Image.debian_slim(), add one with "
            f"Image.from_registry(..., add_python={_KERNEL!r}), or name an image with it, such as "
            f"python:{_KERNEL}-slim"
        )
    raise BuildError(
        f"{base} has Python 3.{minor}, and a class needs Python {PYTHONS[0]} to {PYTHONS[-1]}. "
        "Fix: use Image.debian_slim(), or an image with one of these"
    )
