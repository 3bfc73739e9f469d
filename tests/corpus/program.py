"""The format of a program: read a ``.cells`` file into frozen records.

A file has a header of comments, cells, and steps::

    # A class reads its own name.
    # covers: self reference

    # %% model
    %%lifecycle_cls
    class V:
        LIMIT = 5
        @lm.method()
        def get(self): return V.LIMIT

    # %% use
    V().get.remote()
    #> 5

    # %% step: raise the limit
    edit model
    -    LIMIT = 5
    +    LIMIT = 6
    card V new
    run use
    #> 6

Lines that begin with ``#>`` say what the cell above must show: what it prints, then the value of
its last expression; ``#!`` is the exception that it must raise, as ``Type: first line``. Where the
product differs on purpose, ``#plain>`` and ``#product>`` (and ``#plain!``, ``#product!``) stand for
one of the two, and the header names the row of ``differences.json``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "programs"
HEADER = ("covers", "needs", "differs", "engines", "again", "order", "file")
DECISIONS = ("new", "kept", "unchanged")

_SHOWN = re.compile(r"#(plain|product|)([>!]) ?(.*)")


@dataclass(frozen=True)
class Shown:
    """What a cell must show: for each of ``plain`` and ``product``, None where nothing is said."""

    plain: str | None = None
    product: str | None = None
    plain_error: str | None = None
    product_error: str | None = None


@dataclass(frozen=True)
class Cell:
    """One cell: its name, its text, and what its first run must show."""

    name: str
    text: str
    shown: Shown = Shown()

    @property
    def declares(self) -> bool:
        return "%%lifecycle_cls" in self.text


@dataclass(frozen=True)
class Action:
    """One thing that a step does.

    ``edit`` gives a cell another text and runs it, ``run`` runs it as it is, ``card`` checks what
    was decided for a class (``what``: words of `DECISIONS`), ``file`` writes a file.
    """

    kind: str
    name: str
    what: str = ""
    shown: Shown = Shown()


@dataclass(frozen=True)
class Step:
    """A title and what is done, in order."""

    title: str
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Program:
    """A notebook: cells that run in order, are run once more, and then the steps."""

    kind: str
    name: str
    title: str
    cells: tuple[Cell, ...]
    steps: tuple[Step, ...]
    files: tuple[tuple[str, str], ...] = ()
    headers: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.name}"

    def words(self, header: str) -> tuple[str, ...]:
        """The values of a header, which commas separate."""
        found = self.headers.get(header, "")
        return tuple(word.strip() for word in found.split(",") if word.strip())

    @property
    def runs_again(self) -> bool:
        """Whether all cells run once more before the steps; ``again: no`` says otherwise."""
        return self.headers.get("again") != "no"


def all_programs() -> list[Program]:
    return [read(path) for path in sorted(FOLDER.glob("*/*.cells"))]


def read(path: Path) -> Program:
    try:
        return parse(path.read_text(), path.parent.name, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse(text: str, kind: str, name: str) -> Program:
    head, *sections = re.split(r"^# %% +", text, flags=re.MULTILINE)
    title, headers = _header(head)
    cells: list[Cell] = []
    steps: list[Step] = []
    files: list[tuple[str, str]] = []
    for section in sections:
        heading, _, body = section.partition("\n")
        heading = heading.strip()
        if heading.startswith("step:"):
            steps.append(_step(heading[5:].strip(), body, cells, steps))
        elif heading.startswith("file:"):
            files.append((heading[5:].strip(), body.strip("\n") + "\n"))
        elif steps:
            raise ValueError(f"cell {heading!r} stands below a step")
        else:
            cells.append(_cell(heading, body))
    names = [cell.name for cell in cells]
    if len(set(names)) != len(names) or not all(names):
        raise ValueError(f"cells need names of their own: {names}")
    return Program(kind, name, title, tuple(cells), tuple(steps), tuple(files), headers)


def _header(text: str) -> tuple[str, dict[str, str]]:
    title: list[str] = []
    headers: dict[str, str] = {}
    for line in text.splitlines():
        bare = line.lstrip("# ").strip()
        key, colon, value = bare.partition(":")
        if colon and key in HEADER:
            headers[key] = value.strip()
        elif bare:
            title.append(bare)
    if not title:
        raise ValueError("the first line is a comment that says what the program does")
    return " ".join(title), headers


def _cell(name: str, body: str) -> Cell:
    lines = body.strip("\n").splitlines()
    text = [line for line in lines if not _SHOWN.fullmatch(line)]
    return Cell(name, "\n".join(text).strip("\n") + "\n", _shown(lines))


def _shown(lines: list[str]) -> Shown:
    found: dict[str, list[str]] = {}
    for line in lines:
        if match := _SHOWN.fullmatch(line):
            who, mark, text = match.groups()
            for side in (who,) if who else ("plain", "product"):
                found.setdefault(side + ("_error" if mark == "!" else ""), []).append(text)
    # Where an error alone is said, nothing is printed.
    for side in ("plain", "product"):
        if side + "_error" in found:
            found.setdefault(side, [])
    return Shown(**{key: "\n".join(texts) for key, texts in found.items()})


def _step(title: str, body: str, cells: list[Cell], before: list[Step]) -> Step:
    texts = {cell.name: cell.text for cell in cells}
    for step in before:
        texts.update((a.name, a.what) for a in step.actions if a.kind == "edit")
    actions: list[Action] = []
    blocks = re.split(r"^(?=(?:edit|run|card|file|append|order) )", body, flags=re.MULTILINE)
    for block in blocks:
        if not block.strip():
            continue
        first, *lines = block.strip("\n").splitlines()
        word, _, rest = first.partition(" ")
        rest = rest.strip()
        if word == "run":
            names = rest.split()
            for one in names:
                if one not in texts:
                    raise ValueError(f"step {title!r}: no cell {one!r}")
            actions += [Action("run", one) for one in names[:-1]]
            actions.append(Action("run", names[-1], shown=_shown(lines)))
        elif word == "edit":
            texts[rest] = _edited(texts.get(rest, ""), lines, f"step {title!r}, cell {rest!r}")
            actions.append(Action("edit", rest, texts[rest], _shown(lines)))
        elif word == "append":
            texts[rest] = _cell(rest, "\n".join(lines)).text
            actions.append(Action("edit", rest, texts[rest], _shown(lines)))
        elif word == "file":
            actions.append(Action("file", rest, "\n".join(lines) + "\n"))
        elif word == "card":
            cls, *decisions = rest.replace(",", " ").replace(" or ", " ").split()
            if not decisions or set(decisions) - set(DECISIONS):
                raise ValueError(f"step {title!r}: card {cls} must be among {DECISIONS}")
            actions.append(Action("card", cls, " ".join(decisions)))
        else:
            raise ValueError(f"step {title!r}: {first!r} is no action")
    return Step(title, tuple(actions))


def _edited(text: str, lines: list[str], where: str) -> str:
    """``text`` with each block of ``-`` lines replaced by the ``+`` lines that follow it.

    ``@`` followed by a line says after which line ``+`` lines without ``-`` lines are put.
    """
    old: list[str] = []
    new: list[str] = []

    def replace(text: str) -> str:
        if not old and not new:
            return text
        source = "".join(line + "\n" for line in old)
        if old and text.count(source) != 1:
            raise ValueError(f"{where}: {source!r} is there {text.count(source)} times")
        if not old:
            raise ValueError(f"{where}: + needs - or @ above it")
        return text.replace(source, "".join(line + "\n" for line in new))

    for line in lines:
        if line.startswith(("-", "@")):
            if new or (line[0] == "@" and old):
                text = replace(text)
                old, new = [], []
            old.append(line[1:])
            if line[0] == "@":
                new.append(line[1:])
        elif line.startswith("+"):
            new.append(line[1:])
        elif line.strip() and not _SHOWN.fullmatch(line):
            raise ValueError(f"{where}: {line!r} begins with neither -, + nor @")
    return replace(text)
