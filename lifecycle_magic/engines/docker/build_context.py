"""The build context that the engine is sent: a tar of a Dockerfile and of what it copies.

A recipe's holds the local files of its steps, which may not have changed since the key was made
from them. A user's own Dockerfile is sent with our label in it, and with its files as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO

from lifecycle_magic.engines.docker.names import FORCED, ROLE
from lifecycle_magic.exception import BuildError
from lifecycle_magic.images.dockerfiles import PRIVATE_DOCKERFILE, Dockerfile
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.instructions import run_anew
from lifecycle_magic.images.local_files import LocalFile
from lifecycle_magic.images.recipe import context_name, dockerfile
from lifecycle_magic.images.steps import AddLocalDir, FileDigests, check_unchanged


def of_recipe(image: Image, base: str, into: IO[bytes], files: FileDigests | None = None) -> None:
    """Write the Dockerfile of a recipe on top of ``base`` and its local files, and rewind.

    ``files`` are the digests that the files have to have; raises `BuildError` if one differs. All
    of it belongs to root. Times are kept, for what compares them (compiled Python, make); the
    engine's cache does not look at them.
    """
    with _written(into) as tar:
        _put(tar, "Dockerfile", io.BytesIO(_forced_dockerfile(image, base).encode()))
        for index, step in enumerate(image.plain_steps()):
            if isinstance(step, AddLocalDir):
                info = tarfile.TarInfo(context_name(index))
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            sent: list[str] = []
            try:
                for file in step.files():
                    sent.append(_add(tar, file, f"{context_name(index)}/{file.name}".rstrip("/")))
            except OSError as error:  # gone or shorter than it was, or not to be read at all
                raise BuildError(f"{step.title()}: {error}") from error
            if files is not None:
                check_unchanged(step, sent, files[index])


def of_dockerfile(source: Dockerfile, into: IO[bytes]) -> None:
    """Write a user's Dockerfile, with our label, and its files, and rewind."""
    with _written(into) as tar:
        # The engine takes its Dockerfile and .dockerignore out of what COPY sees, if the latter
        # names them.
        hidden = [PRIVATE_DOCKERFILE]
        files = source.files()
        if ".dockerignore" in files and source.ignore is None:
            hidden.insert(0, (source.context / ".dockerignore").read_text())
        else:
            hidden.append(".dockerignore")
        for name in files:
            if name != ".dockerignore":
                with contextlib.suppress(FileNotFoundError):  # it is gone since it was listed
                    tar.add(source.context / name, name, recursive=False, filter=_as_root)
        _put(tar, ".dockerignore", io.BytesIO("\n".join(hidden).encode()))
        text = labelled(source.text())
        _put(tar, PRIVATE_DOCKERFILE, io.BytesIO(text.encode(errors="surrogateescape")))


def of_files(dockerfile: str, files: Sequence[tuple[str, IO[bytes]]], into: IO[bytes]) -> None:
    """Write ``dockerfile`` and open ``files``, each under its name, and rewind."""
    with _written(into) as tar:
        for name, file in [("Dockerfile", io.BytesIO(dockerfile.encode())), *files]:
            _put(tar, name, file)


@contextlib.contextmanager
def _written(into: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """Yield a tar for the block to fill, then rewind ``into``."""
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        yield tar
    into.seek(0)


def _put(tar: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    """Add the whole of an open file."""
    info = tarfile.TarInfo(name)
    info.size = file.seek(0, io.SEEK_END)
    file.seek(0)
    tar.addfile(info, file)


def _forced_dockerfile(image: Image, base: str) -> str:
    """Return the image's Dockerfile with the label, and with marks where the engine's cache must
    end.
    """
    first, *rest = dockerfile(image, base).splitlines()
    label = f'LABEL {ROLE}="image"'
    if image.force:
        label += f' {FORCED}="{secrets.token_hex(8)}"'
    for index, step in enumerate(image.plain_steps()):
        if step.force:
            rest[index] = run_anew(rest[index], secrets.token_hex(8))
    return "\n".join([first, label, *rest]) + "\n"


class _Hashed:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        block = self._file.read(size)
        self.sha.update(block)
        return block


def _add(tar: tarfile.TarFile, file: LocalFile, name: str) -> str:
    """Add a file to the context and return its digest at that time."""
    info = tarfile.TarInfo(name)
    info.mode = file.mode
    info.mtime = int(file.path.lstat().st_mtime)
    sha = hashlib.sha256()
    if file.kind == "folder":
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif file.kind == "link":
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(file.path)
        sha.update(os.fsencode(info.linkname))
        tar.addfile(info)
    else:
        with file.path.open("rb") as content:
            info.size = os.fstat(content.fileno()).st_size
            hashed = _Hashed(content)
            tar.addfile(info, hashed)
            sha = hashed.sha
    return file.digest_of(sha.hexdigest())


def labelled(dockerfile: str) -> str:
    """Return a user's Dockerfile with our label in each stage, so that leftovers of a build are
    found.

    >>> labelled("FROM a\\nRUN b\\n")
    'FROM a\\nLABEL lifecycle-magic.role="image"\\nRUN b\\n'
    """
    escape = re.match(r"(?:#.*\n)*#\s*escape\s*=\s*(\S)", dockerfile, re.IGNORECASE)
    goes_on = escape.group(1) if escape else "\\"
    lines: list[str] = []
    instruction = ""  # the one that we are in
    for line in dockerfile.splitlines():
        lines.append(line)
        words = line.strip()
        if not words or words.startswith("#"):
            continue  # between instructions, and also inside of one
        instruction = instruction or words.split()[0].upper()
        if words.endswith(goes_on):
            continue
        if instruction == "FROM":
            lines.append(f'LABEL {ROLE}="image"')
        instruction = ""
    return "".join(f"{line}\n" for line in lines)


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
