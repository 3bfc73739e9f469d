"""The commands of ``%lifecycle`` and ``lifecycle-magic`` for running classes, each declared once.

A declaration has the name, the help and the arguments. `lifecycle_magic.ui.commands` and
`lifecycle_magic.ui.cli.main` add the code. This module imports nothing heavy: loading the extension
needs it for ``%lifecycle?``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

__all__ = ["COMMANDS", "LOG_LINES", "Argument", "Command", "Place", "describe"]

Place = Literal["notebook", "terminal"]
"""Where a command is available: in ``%lifecycle`` or in ``lifecycle-magic``."""

_BOTH: frozenset[Place] = frozenset({"notebook", "terminal"})
_NOTEBOOK: frozenset[Place] = frozenset({"notebook"})
_TERMINAL: frozenset[Place] = frozenset({"terminal"})

LOG_LINES = 50
"""The number of lines that ``logs`` prints by default."""
_HISTORY_ENTRIES = 20


@dataclass(frozen=True)
class Argument:
    """One argument: a flag such as ``-n``, or a positional one such as ``name``.

    ``long`` is a second flag with the same meaning. ``is_switch`` is true for a flag without a
    value; the value of other flags is a whole number, or a string that the help calls ``text``.
    ``is_optional`` and ``is_repeated`` (any
    number of values) are for positional ones.
    """

    flag: str
    help: str
    long: str = ""
    text: str = ""
    is_switch: bool = False
    is_optional: bool = False
    is_repeated: bool = False
    default: int | None = None
    places: frozenset[Place] = _BOTH

    @property
    def usage(self) -> str:
        """The argument as shown in the help: ``NAME``, ``[NAME]``, ``[--all]`` or ``[-n N]``."""
        if self.is_repeated:
            return f"[{self.flag.upper()} ...]"
        if not self.flag.startswith("-"):
            return f"[{self.flag.upper()}]" if self.is_optional else self.flag.upper()
        return f"[{self.flag}]" if self.is_switch else f"[{self.flag} {self.text or 'N'}]"

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the argument to a parser."""
        if not self.flag.startswith("-"):
            count = "*" if self.is_repeated else "?" if self.is_optional else None
            parser.add_argument(self.flag, help=self.help, nargs=count)
            return
        flags = (self.flag, self.long) if self.long else (self.flag,)
        if self.is_switch:
            parser.add_argument(*flags, help=self.help, action="store_true")
        elif self.text:
            parser.add_argument(*flags, help=self.help, metavar=self.text)
        else:
            parser.add_argument(*flags, help=self.help, type=int, default=self.default)


@dataclass(frozen=True)
class Command:
    """One command: its name, its help, and its arguments."""

    name: str
    help: str
    arguments: tuple[Argument, ...] = ()
    places: frozenset[Place] = _BOTH

    @property
    def takes_name(self) -> bool:
        """Return whether the command takes the name of a class or container."""
        return any(one.flag in ("name", "names") for one in self.arguments)

    def usage(self, place: Place) -> str:
        """Return the command with its arguments, as the help shows it."""
        return " ".join([self.name, *(one.usage for one in self.arguments if place in one.places)])

    def add_to(self, parser: argparse.ArgumentParser, place: Place) -> None:
        """Add the command's arguments to a parser."""
        for one in self.arguments:
            if place in one.places:
                one.add_to(parser)


def describe() -> str:
    """Return every command of ``%lifecycle`` with its help, a line each."""
    rows = [(one.usage("notebook"), one.help) for one in COMMANDS.values()]
    width = max(len(usage) for usage, _ in rows)
    return "\n".join(f"  {usage:<{width}}  {help}" for usage, help in rows)


_NAME = Argument("name", "the name of a class or container")
_JSON = Argument("--json", "print JSON", is_switch=True, places=_TERMINAL)

COMMANDS: dict[str, Command] = {
    one.name: one
    for one in (
        Command(
            "ps",
            "list running containers, or kept images and volumes",
            (
                Argument("--all", "of every session", is_switch=True, places=_NOTEBOOK),
                Argument(
                    "--images", "list kept images and volumes with their sizes", is_switch=True
                ),
                _JSON,
            ),
        ),
        Command("apps", "list the classes and functions that can be called by name", (_JSON,)),
        Command(
            "logs",
            "print the output of a class or container, or of a class's last image build",
            (
                _NAME,
                Argument("-n", f"number of lines (default: {LOG_LINES}; of a build: all)"),
                Argument("--build", "print the output of the last image build", is_switch=True),
                Argument(
                    "-f",
                    "go on printing until no container of the name runs",
                    long="--follow",
                    is_switch=True,
                    places=_TERMINAL,
                ),
            ),
        ),
        Command(
            "stop",
            "stop containers, wait for their exit hooks, and print how they ended",
            (Argument("name", _NAME.help, is_optional=True),),
            _NOTEBOOK,
        ),
        Command(
            "restart",
            "start new containers, then stop the previous ones",
            (_NAME,),
            _NOTEBOOK,
        ),
        Command(
            "history",
            "print how containers ended, in earlier sessions too",
            (
                Argument(
                    "-n",
                    f"number of containers (default: {_HISTORY_ENTRIES})",
                    default=_HISTORY_ENTRIES,
                ),
                _JSON,
            ),
        ),
        Command(
            "why",
            "print what the last run of a class's cell kept, started and built, and why",
            (_NAME,),
        ),
        Command(
            "diff",
            "compare the class that runs with its cell in the saved notebook",
            (
                Argument("name", "the name of a class"),
                Argument("notebook", "an .ipynb file", is_optional=True, places=_NOTEBOOK),
                Argument("notebook", "an .ipynb file", places=_TERMINAL),
            ),
        ),
        Command(
            "debug",
            "debug the last exception of a class, in its container",
            (Argument("name", _NAME.help, is_optional=True),),
            _NOTEBOOK,
        ),
        Command(
            "export",
            "write classes of the notebook, and what they need, as a script",
            (
                Argument("notebook", "the saved notebook, an .ipynb file", places=_TERMINAL),
                Argument("names", "classes (default: all)", is_repeated=True),
                Argument("script", "the file to write, such as app.py"),
                Argument("--modal", "import modal in the script", is_switch=True),
                Argument(
                    "--dockerfile",
                    "also write a folder with a Dockerfile and a server of the classes",
                    text="DIR",
                ),
            ),
        ),
        Command(
            "doctor", "check the engines, the sandbox, the state folder and the limits", (_JSON,)
        ),
        Command(
            "prune",
            "remove what ended sessions left, unused images, and with --volumes unused volumes",
            (
                Argument("--all", "this session's images too", is_switch=True, places=_NOTEBOOK),
                Argument(
                    "--volumes", "also remove unused volumes and their content", is_switch=True
                ),
                Argument("-y", "do not ask", long="--yes", is_switch=True),
            ),
        ),
    )
}
