"""Which Python an image has, and whether a class could run on it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from lifecycle_magic.engines.docker_api import create_container
from lifecycle_magic.engines.docker_names import ROLE
from lifecycle_magic.exception import BuildError
from lifecycle_magic.image import Image
from lifecycle_magic.recipes.recipe import PipInstall

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
    container = create_container(api, body)
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
