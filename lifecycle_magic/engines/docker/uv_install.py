"""Python packages for an image by the host's own uv, which is far quicker than the image's pip.

The step runs in a container of the image so far, with uv and its cache mounted, and the container
is committed: uv is not in the image, and what it downloads is kept in a volume of the engine's for
the next image. Where uv fails, the image's pip has a try in the same container. Where uv does not
fit the image (another processor, musl, a user who is not root, no python3), nothing is kept, and
the step is an ordinary one.
"""

from __future__ import annotations

import contextlib
import io
import platform
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lifecycle_magic.engines.docker import build_tools, container_step
from lifecycle_magic.engines.docker.api import (
    create_container,
    image_id,
    inspect_image,
)
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.engines.docker.commit import commit
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.docker.host_settings import ROOTS
from lifecycle_magic.engines.docker.launch import GUEST, RUN
from lifecycle_magic.engines.docker.names import ROLE, VOLUME_PREFIX, tag
from lifecycle_magic.engines.docker.progress import StepOutputTail
from lifecycle_magic.engines.process import environments
from lifecycle_magic.engines.step_reporter import StepReporter
from lifecycle_magic.exception import BuildError, EngineError
from lifecycle_magic.images.package_steps import PipInstall

CACHE = f"{VOLUME_PREFIX}.uv"
"""The volume of the cache. No user's volume has this name: theirs begin with a letter or digit."""

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def install(
    clients: Clients,
    facts: Facts,
    step: PipInstall,
    below: str,
    reporter: StepReporter,
    *,
    anew: bool,
    shares_files: bool = True,
) -> str | None:
    """Install packages on top of the image ``below``; return None if an ordinary build must.

    An engine that does not share files gets the settings alone, and the image's pip installs: uv
    is large. ``reporter`` is the step's; ``anew`` repeats a finished step. Raises `BuildError` if
    uv and the image's pip both fail.
    """
    key = container_step.key_of("uv", step, below)
    if not anew and (known := image_id(clients, tag(key))) is not None:
        reporter.report_start()
        reporter.report_end("cached")
        return known
    try:
        with clients.use("install the packages") as api, contextlib.ExitStack() as stack:
            image = inspect_image(api, below)
            uv = _uv_for(image) if shares_files else None
            if uv is None and (shares_files or step.tool != "pip" or not _is_root(image)):
                return None
            reporter.report_start()
            container = stack.enter_context(container_step.step_container(clients, key))
            with build_tools.folder(uv) as (tools, unusable):
                for text in unusable:
                    reporter.report_output(f"{text}\n")
                config = _config(step, below, tools if shares_files else None, facts)
                if facts.is_podman:  # else the cache would have no label
                    api.create_volume(CACHE, labels={ROLE: "volume"})
                create_container(api, config, container)
                if not shares_files:
                    api.put_archive(container, GUEST, _archive(tools))
                printed = StepOutputTail(reporter.report_output)
                given = container_step.given_to(step, {})
                code = container_step.execute(api, container, printed, given)
            if code and step.tool == "pip":
                reporter.report_end("failed")
                raise printed.failure(reporter, code)
            if code:
                reporter.report_output("the host's uv could not do it here: the image's is to\n")
                return None
            made = commit(clients, container, key)
        reporter.report_end("done")
        return made
    except BuildError:
        raise
    except EngineError as error:  # it may not even start: no python3, or musl
        reporter.report_output(f"the host's uv could not do it here: {error}\n")
        return None


def _uv_for(image: Mapping[str, Any]) -> Path | None:
    """Return the host's uv for this image (as the engine describes it); None if it can't run
    there.
    """
    fits = (
        sys.platform == "linux"
        and image.get("Os") == "linux"
        and image.get("Architecture") == _MACHINES.get(platform.machine())
        and _is_root(image)
    )
    try:
        return Path(environments.find_uv()) if fits else None
    except OSError:
        return None


def _is_root(image: Mapping[str, Any]) -> bool:
    return (image.get("Config") or {}).get("User") in (None, *ROOTS)


def _archive(folder: Path) -> bytes:
    """Return the files of a folder as a tar archive."""
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for path in folder.iterdir():
                tar.add(path, path.name)
        return file.getvalue()


def _config(step: PipInstall, image: str, tools: Path | None, facts: Facts) -> dict[str, Any]:
    """Return the body of ``POST /containers/create`` for a step on top of ``image``.

    Without ``tools`` there is an empty volume in their place, which is no part of a commit and is
    removed with the container.
    """
    mounts: list[dict[str, Any]] = [
        {"Type": "bind", "Source": str(tools), "Target": GUEST, "ReadOnly": True}
        if tools is not None
        else {"Type": "volume", "Target": GUEST, "VolumeOptions": {"NoCopy": True}},
        {
            "Type": "volume",
            "Source": CACHE,
            "Target": RUN,
            "VolumeOptions": {"NoCopy": True, "Labels": {ROLE: "volume"}},
        },
    ]
    words = [step.tool, *step.options(), "--", *step.packages]
    command = ["python3", "-c", build_tools.script(), *words]
    return container_step.body(image, command, facts, mounts, given=True)
