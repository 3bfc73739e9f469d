"""Images made from containers: what a commit leaves out, and how it is kept all the same."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from lifecycle_magic.engines import docker_build
from lifecycle_magic.recipe import unpacked

if TYPE_CHECKING:
    from docker import APIClient


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
