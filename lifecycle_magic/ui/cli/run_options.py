"""The options of ``run``, ``serve`` and ``deploy``: those of Modal's commands."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lifecycle_magic.modal_api.table import notes

__all__ = ["add_ignored", "add_module_option", "add_run_arguments", "notice_ignored"]

_VALUES = ("--env", "--profile", "--name", "--tag", "--strategy")


def add_run_arguments(run: argparse.ArgumentParser) -> None:
    """Add the options and arguments of ``run`` to its parser."""
    run.add_argument(
        "script",
        metavar="script.py[::name]",
        help="name: an entry point, a function, Class.method, or app.name of these",
    )
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="options of what is run")
    add_module_option(run)
    run.add_argument(
        "-q", "--quiet", action="store_true", help="no progress of images and containers"
    )
    run.add_argument(
        "-w",
        "--write-result",
        type=Path,
        metavar="FILE",
        help="write the returned string or bytes to this file",
    )
    add_ignored(run, "run")


def add_module_option(parser: argparse.ArgumentParser) -> None:
    """Add ``-m`` to the parser of a command that takes a script."""
    parser.add_argument(
        "-m", action="store_true", help="take a module by its dotted name, as python -m does"
    )


def add_ignored(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the options of Modal's command that do nothing here."""
    flags: list[str] = []
    for flag in notes(command, "ignored"):
        flags.append(flag)
        if not flag.startswith("--"):
            continue  # the short form of the next one
        if flag in _VALUES:
            parser.add_argument(*flags, metavar="NAME", help="does nothing here")
        else:
            parser.add_argument(*flags, action="store_true", help="does nothing here")
        flags = []


def notice_ignored(given: argparse.Namespace) -> None:
    """Print one line for each given option that does nothing here."""
    for flag, why in notes(given.command, "ignored").items():
        if flag.startswith("--") and getattr(given, flag[2:].replace("-", "_"), None):
            print(f"lifecycle-magic: {flag} does nothing here: {why}", file=sys.stderr)
