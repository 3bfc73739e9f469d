"""Run programs, each in a forked process: a shell like a notebook's, plain or with the product.

Started as ``python -m corpus.host``; reads one request a line and answers with one line each, in
any order. A request names a program's file, how it is run and, for a plain run, what the product
decided for each class in each cell. Everything that takes long to import is imported before the
forks.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import importlib
import importlib.metadata
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from corpus import plain_lm
from corpus.program import Cell, Program
from corpus.runner import arrived
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

_NAMES = ["numpy", "pandas", "pydantic", "joblib", "tqdm", "rich", "matplotlib", "fastapi", "attrs"]
PACKAGES = "--pip " + " ".join(f"{name}=={importlib.metadata.version(name)}" for name in _NAMES)
"""What ``%%lifecycle_cls $packages`` asks for: one image for all programs that need some."""

SETTLE = 10.0
"""Seconds in which output that a cell must show may still arrive."""


NOT_ENDED = "it was killed: exit ended, but"
"""What the product says of a container in which something hinders Python's end."""


@dataclass
class Outcome:
    """What one run of a cell showed: text (with the value of the last line), exception, cards."""

    cell: str
    step: str
    text: str = ""
    error: str | None = None
    where: str | None = None
    trace: str = ""
    displays: list[str] = field(default_factory=list)
    decisions: dict[str, str] = field(default_factory=dict)
    cards: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Ran:
    """How a script ended, and what it printed."""

    code: int
    out: str
    err: str


def _use_another_python() -> None:
    """Let classes run on the Python that ``CORPUS_PYTHON`` names, where no image is given."""
    version = os.environ.get("CORPUS_PYTHON")
    if version:
        image: Any = importlib.import_module("lifecycle_magic.images.image").Image
        make = getattr(image, "first_debian_slim", image.debian_slim)
        image.first_debian_slim = make
        image.debian_slim = lambda python_version=None, **options: make(
            python_version or version, **options
        )


class _Values(DisplayHook):
    """Writes the value of a last line without ``Out[1]:``."""

    def write_output_prompt(self) -> None:
        """Write no prompt."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        sys.stdout.write(format_dict["text/plain"] + "\n")

    def finish_displayhook(self) -> None:
        """Write no empty line."""


class _Stream(io.TextIOBase):
    """Stands for `sys.stdout` in all cells: what is printed belongs to the cell that runs."""

    encoding = "utf-8"
    errors = "strict"

    def write(self, text: str) -> int:
        if not plain_lm.muted:
            Host.current.out.write(text)
        return len(text)

    def writable(self) -> bool:
        return True


class _Displays(DisplayPublisher):
    """Keeps what is displayed, updated by display id."""

    def publish(self, data: Any, metadata: Any = None, **options: Any) -> None:
        name = (options.get("transient") or {}).get("display_id")
        host = Host.current
        if options.get("update") and name in host.named:
            host.named[name].update(data)
            return
        shown = dict(data)
        if name is not None:
            host.named[name] = shown
        host.shown.append(shown)


class Shell(InteractiveShell):
    """A shell with a notebook's displays, that notes exceptions instead of printing them."""

    displayhook_class = Type(_Values)
    display_pub_class = Type(_Displays)
    kernel = None  # cards are displayed, as in a notebook

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        Host.current.failed(etype, evalue, stb)


class Host:
    """One program in this process."""

    current: Host

    def __init__(self, program: Program, mode: str, request: dict[str, Any], pipe: int) -> None:
        self.program, self.mode, self.request, self.pipe = program, mode, request, pipe
        self.outcomes: list[Outcome] = []
        self.shown: list[dict[str, Any]] = []
        self.named: dict[str, dict[str, Any]] = {}
        self.outcome = Outcome("", "")
        self.out = io.StringIO()
        self.stream = _Stream()
        self.read = 0  # of the log, where descriptors 1 and 2 lead
        Host.current = self
        module = types.ModuleType("__main__")
        if mode == "plain":
            sys.modules["lifecycle_magic"] = plain_lm  # type: ignore[assignment]
        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        config.PlainTextFormatter.pprint = False  # a value is one line, however long
        self.shell = Shell.instance(config=config, user_module=module, user_ns=module.__dict__)

    def failed(self, kind: Any, error: Any, lines: list[str]) -> None:
        name = getattr(kind, "__name__", str(kind))
        self.outcome.error = f"{name}: {error!s}".strip().removesuffix(":")
        self.outcome.trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename.startswith("<ipython-input"):  # the innermost one of a cell
                self.outcome.where = f"{frame.name}: {frame.line}"

    # --- the program ---------------------------------------------------------------------------

    async def run(self) -> list[Outcome]:
        for name, text in self.program.files:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        self.shell.user_ns["packages"] = PACKAGES
        self.shell.user_ns["interrupt_when"] = self.interrupt_when
        self.shell.user_ns["run_script"] = self.run_script
        sys.path.insert(0, os.getcwd())
        await self.cell(
            Cell("(load)", "%load_ext lifecycle_magic\nimport lifecycle_magic as lm\n"), "first"
        )
        texts = {cell.name: cell for cell in self.program.cells}
        for cell in self.program.cells:
            await self.cell(cell, "first")
        if self.program.runs_again:
            # A second run may print something else, so only late output is waited for.
            late = self.program.headers.get("order") == "any"
            for cell in self.program.cells:
                await self.cell(cell if late else Cell(cell.name, cell.text), "again")
        for step in self.program.steps:
            for action in step.actions:
                if action.kind == "file":
                    Path(action.name).write_text(action.what)
                elif action.kind == "edit":
                    texts[action.name] = Cell(action.name, action.what)
                    await self.cell(Cell(action.name, action.what, action.shown), step.title)
                elif action.kind == "run":
                    cell = texts[action.name]
                    await self.cell(Cell(cell.name, cell.text, action.shown), step.title)
        await self.cell(Cell("(unload)", "%unload_ext lifecycle_magic\n"), "end")
        end = self.outcomes[-1].text
        if NOT_ENDED in end:
            self.outcomes[-2].problem += f"a container did not end: {end}"
        return self.outcomes[1:-1]

    async def cell(self, cell: Cell, step: str) -> None:
        self.outcome = outcome = Outcome(cell.name, step)
        self.shown, self.named = [], {}
        before = self.containers()
        if self.mode == "plain":
            told = self.request["decisions"]
            index = len(self.outcomes)
            plain_lm.Declaration.decisions = told[index] if index < len(told) else {}
        self.outcomes.append(outcome)
        self.out = out = io.StringIO()
        began = time.monotonic()
        with contextlib.redirect_stdout(self.stream), contextlib.redirect_stderr(self.stream):
            text = self.shell.transform_cell(cell.text)
            try:
                if self.shell.should_run_async(cell.text, transformed_cell=text):
                    await self.shell.run_cell_async(
                        cell.text, store_history=True, transformed_cell=text
                    )
                else:
                    self.shell.run_cell(cell.text, store_history=True)
            except BaseException as error:
                outcome.problem = f"the shell failed: {error!r}"
            if self.mode == "product":
                await self.settle(cell)
        if self.mode == "plain":
            plain_lm.Declaration.unify_all()
        self.out = io.StringIO()
        outcome.seconds = time.monotonic() - began
        os.write(self.pipe, b" ")  # a sign of life, which JSON skips
        outcome.text = out.getvalue() + self.printed_by_descriptor()
        self.sort_displays(outcome, before)

    async def settle(self, cell: Cell) -> None:
        """Wait for output that the cell must show and that takes another way than its result."""
        wanted = cell.shown.product
        deadline = time.monotonic() + SETTLE
        while wanted and time.monotonic() < deadline:
            if all(line in self.out.getvalue() for line in wanted.splitlines() if line.strip()):
                return
            await asyncio.sleep(0.02)

    def printed_by_descriptor(self) -> str:
        """What went past `sys.stdout` in a plain run: subprocesses, and C code."""
        if self.mode != "plain":
            return ""
        with open(self.request["log"], errors="replace") as log:
            log.seek(self.read)
            text = log.read()
            self.read = log.tell()
        return text

    def run_script(self, path: str, *options: str) -> Ran:
        """Run a script's entry point in a process of its own."""
        how = ["lifecycle_magic", "run"] if self.mode == "product" else ["corpus.plain_run"]
        done = subprocess.run(
            [sys.executable, "-m", *how, path, *options], capture_output=True, text=True, timeout=50
        )
        return Ran(done.returncode, done.stdout.strip(), done.stderr)

    def interrupt_when(self, text: str) -> None:
        """Interrupt this cell, as the stop button does, once it has printed ``text``."""
        out = self.out

        def wait() -> None:
            while text not in out.getvalue():
                time.sleep(0.01)
            while self.out is out:
                if self.mode == "product":
                    os.kill(os.getpid(), signal.SIGINT)
                    return
                os.killpg(0, signal.SIGINT)  # as a kernel's manager does
                # Between the print and the system call of a sleep a signal wakes nobody.
                time.sleep(1)

        threading.Thread(target=wait, daemon=True).start()

    # --- what was decided ------------------------------------------------------------------------

    def containers(self) -> dict[str, set[str]]:
        """The ids of a class's containers, in the product."""
        if self.mode == "plain":
            return {}
        from lifecycle_magic.session import session

        current = session.opened()
        found: dict[str, set[str]] = {}
        for one in current.containers() if current is not None else ():
            if one.state.value in ("idle", "busy"):
                found.setdefault(one.plan.cls, set()).add(one.name)
        return found

    def sort_displays(self, outcome: Outcome, before: dict[str, set[str]]) -> None:
        after = self.containers()
        for shown in self.shown:
            text = str(shown.get("text/plain", ""))
            card = re.match(r"[✓✗…] (\w+): (.*)", text)
            if "lm-card" in str(shown.get("text/html", "")) and card:
                name, headline = card.groups()
                outcome.cards[name] = text
                if card[0].startswith("✓"):
                    outcome.decisions[name] = decision(headline)
                    kept = outcome.decisions[name] in ("kept", "unchanged")
                    had = before.get(name, set())
                    if kept and had and not had <= after.get(name, set()):
                        outcome.problem = f"{name}: {headline!r}, but another container runs"
            else:
                kinds = "+".join(sorted(shown))
                outcome.displays.append(f"{kinds}: {text}" if len(text) < 500 else kinds)


def decision(headline: str) -> str:
    if headline.startswith("unchanged"):
        return "unchanged"
    if "kept" in headline or "reloaded" in headline:
        return "kept"
    return "new"


# --- the process that forks


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        if request["mode"] == "product":
            importlib.import_module("lifecycle_magic.ui.notebook.magic")  # once, before the forks
            _use_another_python()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _child(request, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            answer = _answer(pipe.fileno(), pid, request.get("timeout", 60))
        sys.stdout.write(json.dumps({"id": request["id"], **answer}) + "\n")
        sys.stdout.flush()


def _answer(pipe: int, pid: int, timeout: float) -> dict[str, Any]:
    """What a child answers; where it hangs, where it does. ``timeout`` is that of one cell."""
    import select

    deadline = time.monotonic() + timeout
    parts: list[bytes] = []
    asked = False
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if ready:
            if not (part := os.read(pipe, 1 << 20)):
                break
            parts.append(part)
            if not asked:
                deadline = time.monotonic() + timeout
            if part.endswith(b"\n"):  # children of the program may hold the pipe open
                break
        elif not asked:
            asked, deadline = True, time.monotonic() + 3
            os.kill(pid, signal.SIGUSR2)  # its stacks go to the log
        else:
            break
    if asked:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what the program left behind
    answer = b"".join(parts).strip()
    if asked or not answer:
        return {"died": "it hangs" if asked else f"it ended with status {status}"}
    return dict(json.loads(answer))


def _child(request: dict[str, Any], writing: int) -> None:
    """Run the program and end this process. Everything that it prints by descriptor is its log."""
    os.setsid()
    folder = Path(request["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        os.chdir(folder)
        os.environ.update(request["env"])
        time.tzset()
        tempfile.tempdir = None
        program = arrived(json.loads(request["program"]))
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        host = Host(program, request["mode"], request, writing)
        outcomes = loop.run_until_complete(host.run())
        told = json.dumps({"outcomes": [asdict(one) for one in outcomes]})
        with os.fdopen(writing, "w") as pipe:
            pipe.write(told + "\n")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
