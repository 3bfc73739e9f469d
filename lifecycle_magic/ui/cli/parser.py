"""A command-line parser that refuses unknown options and suggests the nearest known one."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from lifecycle_magic.modal_api.table import explain

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviations that suggests an option for an unknown one.

    Like its base class, it ends the process with exit code 2 and a message. ``declare`` adds the
    arguments of a subcommand when it is the one that is asked for: what only one command needs is
    not imported for the others.
    """

    def __init__(self, declare: Callable[[Parser], None] | None = None, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self._declare = declare

    def add_declared(self) -> None:
        """Add the arguments of ``declare``, once."""
        declare, self._declare = self._declare, None
        if declare is not None:
            declare(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words that are known; return the result and the other words."""
        self.add_declared()
        return super().parse_known_args(args, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words. The subcommand's parser, in ``given.parser``, reports unknown words."""
        given, rest = self.parse_known_args(args, namespace)
        if rest:
            getattr(given, "parser", self).refuse(rest)
        return given

    def _check_value(self, action: Any, value: Any) -> None:
        """Explain a command that only Modal has, as argparse does for an unknown one."""
        if action.choices is not None and value not in action.choices:
            message = explain(self.prog.rpartition(" ")[2], str(value))
            if message is not None:
                raise argparse.ArgumentError(None, message)
        super()._check_value(action, value)

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """End the process with a message about these unknown words."""
        name = words[0].partition("=")[0]
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        if not name.startswith("-"):
            self.error(f"unexpected argument {name!r}: it takes {', '.join(known)}")
        meant = name.replace("_", "-").strip("-")
        near = difflib.get_close_matches(meant, [flag[2:] for flag in known], n=1, cutoff=0.7)
        hint = f"did you mean --{near[0]}?" if near else f"it takes {', '.join(known)}"
        self.error(f"unknown option {name}: {hint}")
