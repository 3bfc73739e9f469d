"""Python packages for an image by the host's own uv, which is far quicker than the image's pip.

The step runs in a container of the image so far, with uv and its cache mounted, and the container
is committed: uv is not in the image, and what it downloads is kept in a volume of the engine's for
the next image. Where uv does not fit the image (another processor, musl, a user who is not root, no
python3), or fails, nothing is kept, and the image's own pip is to do it.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines import environment
from lifecycle_magic.engines.docker_api import (
    create_container,
    discard_container,
    image_id,
    inspect_image,
)
from lifecycle_magic.engines.docker_client import Clients
from lifecycle_magic.engines.docker_commit import commit
from lifecycle_magic.engines.docker_facts import Facts
from lifecycle_magic.engines.docker_launch import GUEST, RUN
from lifecycle_magic.engines.docker_names import ROLE, VOLUME_PREFIX, tag
from lifecycle_magic.engines.telling import Told
from lifecycle_magic.exception import EngineError
from lifecycle_magic.paths import private_folder, state_root
from lifecycle_magic.recipes.recipe import PipInstall

if TYPE_CHECKING:
    from docker import APIClient

CACHE = f"{VOLUME_PREFIX}.uv"
"""The volume of the cache. No user's volume has this name: theirs begin with a letter or digit."""

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

# The image's python3 starts uv, for pip's settings in the image (its index, most of all) are to
# count, and uv does not read them.
_SCRIPT = f"""\
from __future__ import annotations
import configparser, os, sys
from pathlib import Path

PIP_SETTINGS
env = dict(os.environ)
for name, value in pip_settings().items():
    env.setdefault(name, value)
if env.get("PIP_CERT"):
    env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
env.update(UV_CACHE_DIR="{RUN}", UV_LINK_MODE="copy", UV_PYTHON_DOWNLOADS="never")
env.update(UV_NO_PROGRESS="1", NO_COLOR="1", UV_NO_CONFIG="1")
env.setdefault("UV_SYSTEM_CERTS", "true")
env["UV_PYTHON"] = sys.executable  # this one, of all that the image may have
os.execve("{GUEST}/uv", ["uv", "pip", "install", *sys.argv[1:]], env)
"""

# As pip does it: the best of all indexes, modules compiled now, because a container that compiles
# them on import keeps nothing of it; and an image is nobody's system.
_OPTIONS = ("--break-system-packages", "--compile-bytecode")
_OPTIONS_OF_PIP = ("--index-strategy=unsafe-best-match",)


def install(
    clients: Clients, facts: Facts, step: PipInstall, below: str, told: Told, *, anew: bool
) -> str | None:
    """Install packages with the host's uv on top of the image ``below``; None where pip has to.

    ``told`` is this step's. ``anew``: although it was done before.
    """
    key = hashlib.sha256(f"uv {below} {step.instruction('')}".encode()).hexdigest()
    if not anew and (known := image_id(clients, tag(key))) is not None:
        told.began()
        told.ended("cached")
        return known
    container = ""
    try:
        with clients.use("install the packages") as api:
            uv = _folder(inspect_image(api, below))
            if uv is None:
                return None
            told.began()
            body = _config(step, below, uv, facts)
            # By its name, for an interrupt may leave one whose id we never heard.
            container = f"lm-build-{key[:12]}-{secrets.token_hex(4)}"
            create_container(api, body, container)
            if _run(api, container, told.printed):
                told.printed("the host's uv could not do it here: pip is to\n")
                return None
        made = commit(clients, container, key)
        told.ended("done")
        return made
    except EngineError as error:  # it may not even start: no python3, or musl
        told.printed(f"the host's uv could not do it here: {error}\n")
        return None
    finally:
        if container:
            discard_container(clients, container)


def _folder(image: Mapping[str, Any]) -> Path | None:
    """A folder with the host's uv, to mount for this image (as the engine describes it); None if it
    can't run there.
    """
    fits = (
        sys.platform == "linux"
        and image.get("Os") == "linux"
        and image.get("Architecture") == _MACHINES.get(platform.machine())
        and (image.get("Config") or {}).get("User") in (None, "", "0", "root", "0:0", "root:root")
    )
    if not fits:
        return None
    try:
        found = Path(environment.find_uv())
        return _alone(found)
    except OSError:
        return None


def _alone(uv: Path) -> Path:
    """A folder with a copy of ``uv`` alone: the rest of the host's environment is not mounted."""
    status = uv.stat()
    place = private_folder(state_root() / "uv") / f"{status.st_size}-{status.st_mtime_ns}"
    if not (place / "uv").exists():
        part = place.with_name(f".{place.name}-{os.getpid()}")
        part.mkdir(exist_ok=True)
        shutil.copy(uv, part / "uv")
        try:
            part.rename(place)
        except OSError:  # another kernel was quicker
            shutil.rmtree(part, ignore_errors=True)
    return place


def _config(step: PipInstall, image: str, uv: Path, facts: Facts) -> dict[str, Any]:
    """The body of ``POST /containers/create`` for a step on top of ``image``."""
    script = _SCRIPT.replace("PIP_SETTINGS", inspect.getsource(environment.pip_settings))
    options = (*_OPTIONS, *(_OPTIONS_OF_PIP if step.tool == "pip" else ()))
    host: dict[str, Any] = {
        "Mounts": [
            {"Type": "bind", "Source": str(uv), "Target": GUEST, "ReadOnly": True},
            {
                "Type": "volume",
                "Source": CACHE,
                "Target": RUN,
                "VolumeOptions": {"NoCopy": True, "Labels": {ROLE: "volume"}},
            },
        ]
    }
    if facts.secured_by("selinux"):
        host["SecurityOpt"] = ["label=disable"]
    if facts.secured_by("userns"):
        host["UsernsMode"] = "host"
    return {
        "Image": image,
        "Entrypoint": ["python3", "-c", script, *options, *step.options(), "--", *step.packages],
        "Cmd": [],
        "Labels": {ROLE: "container"},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }


def _run(api: APIClient, container: str, on_output: Callable[[str], None]) -> int:
    """Start the container, hand on what it prints, and return its exit code."""
    stream: Iterator[bytes] = api.attach(container, stream=True, logs=True)
    api.start(container)
    for chunk in stream:
        on_output(chunk.decode(errors="replace"))
    return int(api.wait(container)["StatusCode"])
