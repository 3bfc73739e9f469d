"""``lifecycle-magic completion``: completion of commands, options and names in bash, zsh and fish.

The shell asks this program itself, by way of argcomplete, so that what it offers follows the
parser, and the names are those of this moment.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.cli.parser import Parser

__all__ = ["add_arguments", "answer", "run"]

_HOW = {
    "bash": 'eval "$(lifecycle-magic completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(lifecycle-magic completion zsh)" in ~/.zshrc, after compinit',
    "fish": "lifecycle-magic completion fish > ~/.config/fish/completions/lifecycle-magic.fish",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``completion`` to its parser."""
    parser.set_defaults(do=run)
    parser.add_argument("shell", choices=_HOW, help="the shell that reads the script")
    parser.epilog = "to use it:\n" + "\n".join(f"  {shell}: {how}" for shell, how in _HOW.items())


def run(given: argparse.Namespace) -> int:
    """Print the script for a shell. Raises `InvalidError` if argcomplete is not installed."""
    try:
        argcomplete: Any = import_module("argcomplete")
    except ModuleNotFoundError:
        raise InvalidError(
            "completion needs the package argcomplete. "
            "Fix: pip install 'lifecycle-magic[completion]'"
        ) from None
    print(argcomplete.shellcode(["lifecycle-magic"], shell=given.shell))
    return 0


def answer(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks what can be typed next, and end. Do nothing if none asks."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    with contextlib.suppress(ModuleNotFoundError):
        argcomplete: Any = import_module("argcomplete")
        typed = os.environ.get("COMP_LINE", "").split()
        for name, command in _commands(parser).items():
            if name in typed and isinstance(command, Parser):
                command.add_declared()  # argcomplete has to see them before it parses
        for path, names in _NAMES.items():
            if path.split()[0] in typed:
                _completes(parser, path, names)
        argcomplete.autocomplete(parser, always_complete_options="long")


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(action.choices)
    return found


def _completes(
    parser: argparse.ArgumentParser, path: str, names: Callable[[], Iterable[str]]
) -> None:
    """Let an argument, such as ``app stop name``, be completed with ``names``."""
    *commands, argument = path.split()
    for command in commands:
        parser = _commands(parser)[command]
    found: Any = next(action for action in parser._actions if action.dest == argument)
    found.completer = lambda **_: list(names())


def _containers() -> Iterable[str]:
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.lifecycle.history import History
    from lifecycle_magic.ui.panel.snapshot import run_folders

    root = state_root()
    running = [name for one in run_folders(root) for name in (one.cls, one.container)]
    return dict.fromkeys([*running, *(one.cls for one in History(root).entries())])


def _deployments() -> Iterable[str]:
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.ui.cli.deployed import deployments

    return {one.deployment for one in deployments(state_root())}


def _apps() -> Iterable[str]:
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.host.served_names import living

    return {name for one in living(state_root()) for name in (*one.names, one.deployment) if name}


def _secrets() -> Iterable[str]:
    from lifecycle_magic.host import secret_store

    return secret_store.names()


_NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "logs name": _containers,
    "stop name": _deployments,
    "app logs name": _apps,
    "app stop name": _apps,
    "secret delete name": _secrets,
}
"""Arguments that are completed with what there is now."""
