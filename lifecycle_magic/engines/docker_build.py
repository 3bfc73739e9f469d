"""Building a recipe with the engine's classic build API: what goes in, what its stream means."""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, Literal

from lifecycle_magic import full
from lifecycle_magic.dockerfiles import PRIVATE_DOCKERFILE, Dockerfile
from lifecycle_magic.engines.base import LABEL, OnStep, StepOutput
from lifecycle_magic.engines.docker_launch import ROLE
from lifecycle_magic.exception import BuildError
from lifecycle_magic.image import Image, context_name, dockerfile
from lifecycle_magic.instructions import run_anew
from lifecycle_magic.localfiles import LocalFile
from lifecycle_magic.recipe import AddLocalDir, FileDigests, check_unchanged

REPOSITORY = "lifecycle-magic"
FORCED = f"{LABEL}.forced"  # on an image whose base was marked with force_build

_LAST_LINES = 20
_KEPT = 8000  # characters of a step's output, for its last lines
_BEFORE = 2  # instructions before the recipe's own: FROM, and the label

_STEP = re.compile(r"Step (\d+)/(\d+) : ")
# The engine colours what a command writes to standard error.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CHATTER = re.compile(
    r" ---> (?:Running in )?[0-9a-f]{12}\s*|Removing intermediate container \w+\s*|\s*"
    r"|Successfully (?:built|tagged) \S+\s*"
)

# What package tools print when they fail, and what to do about it. The first that is found counts:
# without a network, pip also says that there is no such package.
_MENDS = (
    (
        r"Temporary failure (?:in name resolution|resolving)|Network is unreachable"
        r"|Could not resolve|Failed to establish a new connection|dns error"
        r"|Could not connect to|Connection timed out",
        "the build reached no network: check that containers have one (docker run --rm IMAGE "
        "python3 -c 'import urllib.request as u; u.urlopen(\"https://...\")'), and the proxies in "
        "~/.docker/config.json",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate|certificate verification failed",
        "the image does not trust the server's certificate: behind a company's own CA, add it with "
        ".add_local_file(...) and .run_commands('update-ca-certificates')",
    ),
    (
        r"No matching distribution found|No solution found|was not found in the package registry",
        "check the package's name and version, and that it has a release for this Python",
    ),
    (r"Unable to locate package|has no installation candidate", "check the Debian package's name"),
    (
        r"exec: \"(?:/bin/sh|env|sh)\"|/bin/sh: no such file",
        "steps run in a shell, and the base image has none (no /bin/sh): start from one that has, "
        "such as Image.debian_slim(), or do it in a @build hook",
    ),
    (
        r"exec: \"python3\"|python3: not found|No module named pip",
        "the base image needs python3 with pip: use Image.debian_slim(), or another base",
    ),
    (
        r"gcc: not found|command 'gcc' failed|command 'cc' failed|error: command '\S*gcc'",
        "the package has to be compiled: put .apt_install('build-essential') before this step",
    ),
)


def tag(key: str) -> str:
    """The name under which the engine keeps the image with this key."""
    return f"{REPOSITORY}:{key[:40]}"


def context(image: Image, base: str, into: IO[bytes], files: FileDigests | None = None) -> None:
    """Write the build context, a tar of the Dockerfile and the local files, and rewind.

    ``files`` are the digests that the files have to have; raises `BuildError` if one differs. All
    of it belongs to root. Times are kept, for what compares them (compiled Python, make); the
    engine's cache does not look at them.
    """
    text = _forced_dockerfile(image, base).encode()
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
        for index, step in enumerate(image.steps):
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
    into.seek(0)


def _forced_dockerfile(image: Image, base: str) -> str:
    """The image's Dockerfile with our label, and with marks where the engine's cache must end."""
    first, *rest = dockerfile(image, base).splitlines()
    label = f'LABEL {ROLE}="image"'
    if image.force:
        label += f' {FORCED}="{secrets.token_hex(8)}"'
    for index, step in enumerate(image.steps):
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
    """Add a file to the context; its digest as it was then."""
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


class Progress:
    """Turns the engine's build stream, message by message, into reports of the recipe's steps.

    ``titles`` are those of the steps in this build, ``before`` is how many were made ahead of them,
    and ``of`` how many the recipe has. ``clock`` returns seconds. Pure but for calling ``on_step``.
    """

    def __init__(
        self,
        titles: list[str],
        on_step: OnStep,
        clock: Callable[[], float] = time.monotonic,
        *,
        before: int = 0,
        of: int | None = None,
    ) -> None:
        self._titles = titles
        self._on_step = on_step
        self._clock = clock
        self._ahead = before
        self._of = len(titles) if of is None else of
        self._instruction = 0
        self._began = clock()
        self._cached = False
        self._tail = ""
        self._image: str | None = None

    def feed(self, message: Mapping[str, Any]) -> None:
        """Take the next message; raises `BuildError` if it says that the build failed."""
        if "error" in message:
            self._fail(message)
        elif "aux" in message:
            self._image = message["aux"].get("ID", self._image)
        elif text := message.get("stream"):
            self._read(_COLOUR.sub("", text))

    def image(self) -> str:
        """The id of the image, once the stream has ended."""
        self._end()
        if self._image is None:
            raise BuildError(
                "the engine ended the build without an image: look at the engine's log"
            )
        return self._image

    def _read(self, text: str) -> None:
        header = _STEP.match(text)
        # A command may print such a line too, but hardly with the number that is due.
        total, due = len(self._titles) + _BEFORE, self._instruction + 1
        if header and due <= total and header.groups() == (str(due), str(total)):
            self._end()
            self._instruction += 1
            self._began, self._cached, self._tail = self._clock(), False, ""
            if self._step:
                self._report("running", self._titles[self._step - 1])
        elif text.strip() == "---> Using cache":
            self._cached = True
        elif not _CHATTER.fullmatch(text):
            self._tail = (self._tail + text)[-_KEPT:]
            if self._step:
                self._report("output", text)

    @property
    def _step(self) -> int:
        return max(0, self._instruction - _BEFORE)

    def _end(self) -> None:
        if self._step:
            status: Literal["cached", "done"] = "cached" if self._cached else "done"
            self._report(status, self._titles[self._step - 1], self._clock() - self._began)

    def _fail(self, message: Mapping[str, Any]) -> None:
        detail = message.get("errorDetail") or {}
        code = detail.get("code")
        words = str(detail.get("message") or message["error"])
        title = self._titles[self._step - 1] if self._step else "the base image"
        if self._step:
            self._report("failed", title, self._clock() - self._began)
        lines = self._tail.splitlines()[-_LAST_LINES:]
        if code is None:
            lines.append(words)
        where = f"step {self._ahead + self._step} of {self._of}" if self._step else "the start"
        raise BuildError(
            f"the image could not be built: {where} failed: {title}"
            + (f" (exit code {code})" if code is not None else "")
            + "".join(f"\n  {line}" for line in lines)
            + _mend(self._tail + words)
        )

    def _report(
        self,
        status: Literal["running", "output", "done", "cached", "failed"],
        text: str,
        seconds: float | None = None,
    ) -> None:
        self._on_step(StepOutput(self._ahead + self._step, self._of, status, text, seconds))


def _mend(text: str) -> str:
    found = (f"\nMend: {mend}" for pattern, mend in _MENDS if re.search(pattern, text))
    return full.mend(text, full.DOCKER) or next(found, "")


def pulled(stream: Iterable[Mapping[str, Any]], reference: str, on_step: OnStep | None) -> None:
    """Follow a pull to its end, as one step of its own; raises `BuildError` if it fails."""
    began = time.monotonic()
    title = f"pull {reference}"

    def report(
        status: Literal["running", "output", "done", "failed"],
        text: str = title,
        seconds: float | None = None,
    ) -> None:
        if on_step is not None:
            on_step(StepOutput(1, 1, status, text, seconds))

    report("running")
    layers: dict[str, bool] = {}
    for message in stream:
        if "error" in message:
            report("failed", seconds=time.monotonic() - began)
            raise no_such_base(reference, str(message["error"]))
        layer, status = message.get("id"), message.get("status", "")
        if layer and (status.startswith("Pulling fs layer") or layer in layers):
            complete = status in {"Pull complete", "Already exists"}
            if complete and not layers.get(layer):
                report("output", f"{sum(layers.values()) + 1} of {len(layers)} layers\n")
            layers[layer] = layers.get(layer, False) or complete
    report("done", seconds=time.monotonic() - began)


def dockerfile_context(source: Dockerfile, into: IO[bytes]) -> None:
    """Write the context of a user's Dockerfile, a tar of it and its files, and rewind."""
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        # The engine takes its Dockerfile and .dockerignore out of what COPY sees, if the latter
        # names them.
        hidden = [PRIVATE_DOCKERFILE]
        files = source.files()
        if ".dockerignore" in files:
            hidden.insert(0, (source.context / ".dockerignore").read_text())
        else:
            hidden.append(".dockerignore")
        for name in files:
            if name != ".dockerignore":
                tar.add(source.context / name, name, recursive=False, filter=_as_root)
        ignore = tarfile.TarInfo(".dockerignore")
        content = "\n".join(hidden).encode()
        ignore.size = len(content)
        tar.addfile(ignore, io.BytesIO(content))
        text = labelled(source.path.read_bytes().decode(errors="surrogateescape"))
        content = text.encode(errors="surrogateescape")
        private = tarfile.TarInfo(PRIVATE_DOCKERFILE)
        private.size = len(content)
        tar.addfile(private, io.BytesIO(content))
    into.seek(0)


def labelled(dockerfile: str) -> str:
    """A user's Dockerfile with our label in each stage from its start: what a build that fails
    leaves is found by it.

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


def followed(stream: Iterable[Mapping[str, Any]], title: str, on_step: OnStep | None) -> str:
    """Follow the build of a user's Dockerfile as one step; the id of its image.

    Raises `BuildError` with the failing instruction, its exit code and its last 20 lines.
    """
    began = time.monotonic()
    image, instruction, tail = "", title, ""

    def report(status: Literal["running", "output", "done", "failed"], text: str = title) -> None:
        if on_step is not None:
            ended = time.monotonic() - began if status in ("done", "failed") else None
            on_step(StepOutput(1, 1, status, text, ended))

    report("running")
    for message in stream:
        if "error" in message:
            report("failed")
            detail = message.get("errorDetail") or {}
            code, words = detail.get("code"), str(detail.get("message") or message["error"])
            lines = [*tail.splitlines()[-_LAST_LINES:], *([words] if code is None else [])]
            raise BuildError(
                f"{title} failed: {instruction}"
                + (f" (exit code {code})" if code is not None else "")
                + "".join(f"\n  {line}" for line in lines)
                + _mend(tail + words)
            )
        if "aux" in message:
            image = message["aux"].get("ID", image)
        elif text := _COLOUR.sub("", message.get("stream") or ""):
            if header := _STEP.match(text):
                instruction, tail = text[header.end() :].strip(), ""
            elif not _CHATTER.fullmatch(text):
                tail = (tail + text)[-_KEPT:]
            report("output", text)
    report("done")
    if not image:
        raise BuildError(f"{title}: the engine ended without an image: look at the engine's log")
    return image


def no_such_base(reference: str, words: str) -> BuildError:
    """The image that a recipe starts from is neither here nor to be had."""
    if full.is_full(words):
        mend = full.mend(words, full.DOCKER)
        return BuildError(f"the base image {reference} can't be pulled: {words}{mend}")
    return BuildError(
        f"the base image {reference} is not on the engine and can't be pulled: {words}. "
        "Mend: check its name, that this machine reaches its registry, and docker login if it is "
        "private"
    )
