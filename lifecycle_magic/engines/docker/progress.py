"""The meaning of the engine's streams: of a build, message by message, and of a pull.

A failure is reported with the step, its last lines, and the fix where it is known.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from lifecycle_magic.engines.base import OnStep, StepOutput
from lifecycle_magic.engines.output_tail import OutputTail
from lifecycle_magic.engines.step_reporter import StepReporter
from lifecycle_magic.exception import BuildError
from lifecycle_magic.host import disk_full

_BEFORE = 2  # instructions before the recipe's own: FROM, and the label

_STEP = re.compile(r"(?:Step (\d+)/(\d+) : |STEP (\d+)/(\d+): )")  # Docker's, Podman's
# The engine colours what a command writes to standard error.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CHATTER = re.compile(
    r" ---> (?:Running in )?[0-9a-f]{12}\s*|Removing intermediate container \w+\s*|\s*"
    r"|Successfully (?:built|tagged) \S+\s*"
    # Podman's
    r"|--> [0-9a-f]{11,12}\s*|COMMIT(?: \S+)?\s*|[0-9a-f]{64}\s*"
)
_CACHED = re.compile(r"\s*-{2,3}> Using cache(?: [0-9a-f]{64})?\s*")
_PODMANS_CODE = re.compile(r"while running runtime: exit status (\d+)\s*")

# What package tools print when they fail, and what to do about it. The first that is found counts:
# without a network, pip also says that there is no such package.
_FIXES = (
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


class BuildProgress:
    """A translator of the engine's build stream into reports of the recipe's steps.

    ``titles`` are those of the steps in this build, ``before`` is how many steps precede them, and
    ``of`` how many the recipe has. ``clock`` returns seconds. Pure except for calling ``on_step``.
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
        self._tail = OutputTail()
        self._image: str | None = None

    def feed(self, message: Mapping[str, Any]) -> None:
        """Take the next message; raises `BuildError` if it says that the build failed."""
        if "error" in message:
            self._fail(message)
        elif "aux" in message:
            self._image = _image(message) or self._image
        elif text := _text(message, "stream"):
            self._read(_COLOUR.sub("", text))

    def image(self) -> str:
        """Return the id of the image, once the stream has ended."""
        self._end()
        if self._image is None:
            raise BuildError(
                "the engine ended the build without an image. Fix: look at the engine's log"
            )
        return self._image

    def _read(self, text: str) -> None:
        header = _STEP.match(text)
        # A command may print such a line too, but hardly with the number that is due.
        total, due = len(self._titles) + _BEFORE, self._instruction + 1
        if header and due <= total and _numbers(header) == (due, total):
            self._end()
            self._instruction += 1
            self._began, self._cached = self._clock(), False
            self._tail.clear()
            if self._step:
                self._report("running", self._titles[self._step - 1])
        elif _CACHED.fullmatch(text):
            self._cached = True
        elif not _CHATTER.fullmatch(text):
            self._tail.add(text)
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
        title = self._titles[self._step - 1] if self._step else "the base image"
        if self._step:
            self._report("failed", title, self._clock() - self._began)
        where = f"step {self._ahead + self._step} of {self._of}" if self._step else "the start"
        what = f"the image could not be built: {where} failed: {title}"
        raise _failure(what, message, self._tail)

    def _report(
        self,
        status: Literal["running", "output", "done", "cached", "failed"],
        text: str,
        seconds: float | None = None,
    ) -> None:
        self._on_step(StepOutput(self._ahead + self._step, self._of, status, text, seconds))


class StepOutputTail:
    """Hands on what a step prints, and keeps its end for the error."""

    def __init__(self, on_output: Callable[[str], None]) -> None:
        self._on_output = on_output
        self._tail = OutputTail()

    def __call__(self, text: str) -> None:
        """Take what was printed."""
        self._tail.add(text)
        self._on_output(text)

    def failure(self, step: StepReporter, code: int) -> BuildError:
        """Return the error for a step that ended with an exit code."""
        what = f"the image could not be built: step {step.number} of {step.of} failed: {step.title}"
        return _failure(what, {"errorDetail": {"code": code}, "error": ""}, self._tail)


def follow_build(stream: Iterable[Mapping[str, Any]], title: str, on_step: OnStep | None) -> str:
    """Follow the build of a user's Dockerfile as one step; return the id of its image.

    Raises `BuildError` with the failing instruction, its exit code and its last 20 lines.
    """
    reporter = StepReporter(on_step, title)
    image, instruction, tail = "", title, OutputTail()
    reporter.report_start()
    for message in stream:
        if "error" in message:
            reporter.report_end("failed")
            raise _failure(f"{title} failed: {instruction}", message, tail)
        if "aux" in message:
            image = _image(message) or image
        elif text := _COLOUR.sub("", _text(message, "stream")):
            if header := _STEP.match(text):
                instruction = text[header.end() :].strip()
                tail.clear()
            elif not _CHATTER.fullmatch(text):
                tail.add(text)
            reporter.report_output(text)
    reporter.report_end("done")
    if not image:
        raise BuildError(
            f"{title}: the engine ended the build without an image. Fix: look at the engine's log"
        )
    return image


def _failure(what: str, message: Mapping[str, Any], tail: OutputTail) -> BuildError:
    """Return the error of ``what``, with the engine's ``message`` and ``tail``, the last output."""
    detail = _object(message, "errorDetail")
    code, words = detail.get("code"), str(detail.get("message") or message["error"])
    if code is None and (podmans := _PODMANS_CODE.search(words)):
        code = int(podmans.group(1))
    # With an exit code, the engine's words repeat it and the command, and tell nothing more.
    lines = [*tail.lines(), *([words] if code is None else [])]
    return BuildError(
        what
        + (f" (exit code {code})" if code is not None else "")
        + "".join(f"\n  {line}" for line in lines)
        + _fix_for(tail.text + words)
    )


def _numbers(header: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(number) for number in header.groups() if number is not None)


def _text(message: Mapping[str, Any], field: str) -> str:
    found = message.get(field)
    return found if isinstance(found, str) else ""


def _object(message: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    found = message.get(field)
    return found if isinstance(found, dict) else {}


def _image(message: Mapping[str, Any]) -> str:
    """Return the id of the image that was made, if the message says so."""
    return _text(_object(message, "aux"), "ID")


def _fix_for(text: str) -> str:
    found = (f"\nFix: {fix}" for pattern, fix in _FIXES if re.search(pattern, text))
    return disk_full.fix_line(text, disk_full.DOCKER_FIX) or next(found, "")


def follow_pull(
    stream: Iterable[Mapping[str, Any]], reference: str, on_step: OnStep | None
) -> None:
    """Follow a pull to its end, as one step of its own; raises `BuildError` if it fails."""
    reporter = StepReporter(on_step, f"pull {reference}")
    reporter.report_start()
    layers: dict[str, bool] = {}
    for message in stream:
        if "error" in message:
            reporter.report_end("failed")
            raise no_such_base(reference, str(message["error"]))
        layer, status = _text(message, "id"), _text(message, "status")
        if layer and (status.startswith("Pulling fs layer") or layer in layers):
            complete = status in {"Pull complete", "Already exists"}
            if complete and not layers.get(layer):
                reporter.report_output(f"{sum(layers.values()) + 1} of {len(layers)} layers\n")
            layers[layer] = layers.get(layer, False) or complete
    reporter.report_end("done")


def no_such_base(reference: str, words: str) -> BuildError:
    """Return the error for a base image that is not available locally and cannot be pulled."""
    if disk_full.is_full(words):
        fix = disk_full.fix_line(words, disk_full.DOCKER_FIX)
        return BuildError(f"the base image {reference} can't be pulled: {words}{fix}")
    return BuildError(
        f"the base image {reference} is not on the engine and can't be pulled: {words}. "
        "Fix: check its name, that this machine reaches its registry, and docker login if it is "
        "private"
    )
