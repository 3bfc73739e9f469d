"""Run a program plain and through the product, and compare."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.program import Action, Cell, Program, Shown

TESTS = Path(__file__).parents[1]
INSTALL_SECONDS = 600  # for a program that installs packages


class Runner:
    """A process that forks one process for each run of a program.

    ``package`` is a folder with another copy of the package. A cell has ``seconds``, more if its
    program installs packages.
    """

    def __init__(
        self, folder: Path, state: Path, *, package: Path | None = None, seconds: float = 60
    ) -> None:
        self.folder = folder
        self._seconds = seconds
        self.state = state
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "host.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "corpus.host"],
                env={
                    **os.environ,
                    "PYTHONPATH": f"{package}:{TESTS}" if package else str(TESTS),
                    "LIFECYCLE_MAGIC_STATE": str(state),
                    "IPYTHONDIR": str(folder / "ipython"),
                    "MPLBACKEND": "agg",
                },
                cwd=folder,  # Python imports from there first: not from a checkout
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def run(
        self,
        program: Program,
        mode: str,
        engine: str = "process",
        decisions: Sequence[dict[str, str]] = (),
    ) -> list[dict[str, Any]]:
        """The outcomes of the program's cells, in the order they ran."""
        id_ = uuid.uuid4().hex[:8]
        home = self.folder / f"{program.name}-{id_}"
        request = {
            "id": id_,
            "program": json.dumps(_portable(program)),
            "kind": program.kind,
            "name": program.name,
            "mode": mode,
            "decisions": decisions,
            "folder": str(home),
            "log": str(self.folder / f"{program.name}-{id_}.log"),
            "env": {"LIFECYCLE_MAGIC_ENGINE": engine},
            "timeout": INSTALL_SECONDS if _installs(program) else self._seconds,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"died": "the host ended"}')
        if "died" in answer:
            log = Path(str(request["log"]))
            tail = log.read_text(errors="replace")[-6000:] if log.exists() else ""
            raise Difference([f"{mode} run: {answer['died']}", tail])
        outcomes: list[dict[str, Any]] = answer["outcomes"]
        return outcomes

    @contextlib.contextmanager
    def building(self, program: Program, engine: str) -> Iterator[None]:
        """Let one pytest worker alone build the image with packages; the others wait for it."""
        built = self.state / f"packages-{engine}"
        if "packages" not in program.words("needs") or built.exists():
            yield
            return
        with open(f"{built}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
            built.touch()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _installs(program: Program) -> bool:
    texts = (cell.text for cell in program.cells)
    return any("$packages" in text or "--pip" in text for text in texts)


class Difference(AssertionError):
    """Where the product differs from plain Python, or either from what the program says."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = list(lines)


@dataclass(frozen=True)
class Compared:
    """What two runs of a program came to."""

    product: list[dict[str, Any]]
    plain: list[dict[str, Any]]
    differences: list[str]


def compare(runner: Runner, program: Program, engine: str) -> Compared:
    with runner.building(program, engine):
        product = runner.run(program, "product", engine)
    # The outcome of loading the extension comes first in a run.
    plain = runner.run(program, "plain", engine, [{}, *(one["decisions"] for one in product)])
    return Compared(product, plain, [*_differences(program, product, plain)])


def check(runner: Runner, program: Program, engine: str) -> Compared:
    """Raise `Difference` where there is one."""
    compared = compare(runner, program, engine)
    if compared.differences:
        raise Difference([f"{program.id} on {engine}: {program.title}", *compared.differences])
    return compared


def _differences(program: Program, product: list[Any], plain: list[Any]) -> list[str]:
    found: list[str] = []
    on_purpose = bool(program.words("differs"))
    loose = program.headers.get("order") == "any"
    wanted = [shown for _, shown in _expected(program)]
    apart = {name for name, shown in _expected(program) if _differs(shown)}
    by_type = {name for name, shown in _expected(program) if _only_type(shown.product_error)}
    for here, there, shown in zip(product, plain, wanted, strict=True):
        where = f"cell {here['cell']!r} ({here['step']})"
        for side, one in (("product", here), ("plain", there)):
            if one["problem"]:
                found.append(f"{where}, {side}: {one['problem']}")
            text, error = getattr(shown, side), getattr(shown, side + "_error")
            if text is not None and not same(text, one["text"], loose):
                found.append(f"{where}, {side}: wanted\n{text}\ngot\n{told(one)}")
            elif (text is not None or error is not None) and not raised(error, one["error"]):
                found.append(f"{where}, {side}: wanted error {error}\ngot\n{told(one)}")
        if on_purpose and here["cell"] in apart:
            continue
        for what in ("text", "error", "displays", "where"):
            mine, theirs = here[what], there[what]
            if what == "text" and same(str(theirs), str(mine), loose):
                continue
            if what == "error" and here["cell"] in by_type:
                mine, theirs = (str(one).partition(":")[0] for one in (mine, theirs))
            nowhere = here["error"] is None or here["error"].startswith("KeyboardInterrupt")
            if mine != theirs and not (what == "where" and nowhere):
                found.append(f"{where}: {what} is\n{mine}\nplain it is\n{theirs}")
                if what == "error" and here["trace"] not in "".join(found):
                    found.append(here["trace"] or there["trace"])
        for card in here["cards"].values():
            if ": new containers" in card and "because" not in card:
                found.append(f"{where}: the card gives no reason: {card}")
        if there["error"] and "/lifecycle_magic/" in here["trace"]:
            found.append(f"{where}: frames of the package are shown\n{here['trace']}")
        if here["step"] == "again" and "card" not in program.headers:
            for cls, decision in here["decisions"].items():
                if decision != "unchanged":
                    found.append(
                        f"{where}: nothing changed, and the card says {here['cards'][cls]}"
                    )
    found += _cards(program, product)
    return found


def _cards(program: Program, product: list[Any]) -> list[str]:
    """What a step says of a card, against the last card of that class so far in the step."""
    found: list[str] = []
    for step in program.steps:
        ran = iter([one for one in product if one["step"] == step.title])
        cards: dict[str, tuple[str, str]] = {}
        for action in step.actions:
            if action.kind in ("edit", "run"):
                one = next(ran)
                cards.update(
                    (cls, (decision, one["cards"][cls]))
                    for cls, decision in one["decisions"].items()
                )
            elif action.kind == "card":
                decision, text = cards.get(action.name, ("none", "no card"))
                if decision not in action.what.split():
                    wanted = " or ".join(action.what.split())
                    found.append(f"step {step.title!r}: {action.name} must be {wanted}: {text}")
    return found


def _expected(program: Program) -> list[tuple[str, Shown]]:
    """What each run of a cell must show, in the order in which they run."""
    found = [(cell.name, cell.shown) for cell in program.cells]
    if program.runs_again:
        found += [(cell.name, Shown()) for cell in program.cells]
    for step in program.steps:
        found += [(one.name, one.shown) for one in step.actions if one.kind in ("edit", "run")]
    return found


def same(wanted: str, got: str, loose: bool) -> bool:
    mine, theirs = _lines(wanted), _lines(got)
    return sorted(mine) == sorted(theirs) if loose else mine == theirs


def _lines(text: str) -> list[str]:
    """The lines of a text, without those in which ``%%time`` gives its times, and without the
    product's hint that a class has values of its last run.
    """
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    return [line for line in lines if not line.startswith(_TIMES) and not _HINT.match(line)]


_TIMES = ("CPU times:", "Wall time:")
_HINT = re.compile(r"\w+ still uses .* as of its last run\. Fix: run the cell of ")


def raised(wanted: str | None, got: str | None) -> bool:
    if wanted is None or got is None:
        return wanted is got
    if wanted.endswith("..."):
        return got.startswith(wanted.removesuffix("..."))
    return got.split("\n")[0].rstrip() == wanted.rstrip()


def _differs(shown: Shown) -> bool:
    return (shown.plain, shown.plain_error) != (shown.product, shown.product_error)


def _only_type(error: str | None) -> bool:
    """Whether the rest of the message is left to each side."""
    return error is not None and error.endswith("...")


def told(one: dict[str, Any]) -> str:
    return one["text"] + (f"{one['error']}\n{one['trace']}" if one["error"] else "")


# --- programs travel to the host as JSON


def _portable(program: Program) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(program)


def arrived(told: dict[str, Any]) -> Program:
    """The program that `_portable` sent."""
    from corpus.program import Step

    return Program(
        **{
            **told,
            "cells": tuple(
                Cell(one["name"], one["text"], Shown(**one["shown"])) for one in told["cells"]
            ),
            "steps": tuple(
                Step(
                    one["title"],
                    tuple(
                        Action(a["kind"], a["name"], a["what"], Shown(**a["shown"]))
                        for a in one["actions"]
                    ),
                )
                for one in told["steps"]
            ),
            "files": tuple(map(tuple, told["files"])),
        }
    )
