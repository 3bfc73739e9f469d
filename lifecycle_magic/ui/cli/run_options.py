"""The options of ``lifecycle-magic run``: those of Modal's command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["add_run_arguments", "notice_ignored"]

_IGNORED = {
    "detach": "containers end with this command, or keep running under lifecycle-magic serve",
    "env": "there is one environment, this user on this machine",
    "interactive": "write breakpoint() where the method runs in this process, with .local()",
    "name": "the app has the name that the script gives it",
    "timestamps": "lifecycle-magic history has the times",
}
"""Options that do nothing here, and why."""


def add_run_arguments(run: argparse.ArgumentParser) -> None:
    """Add the options and arguments of ``run`` to its parser."""
    run.add_argument(
        "script",
        metavar="script.py[::name]",
        help="name: an entry point, a function, Class.method, or app.name of these",
    )
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="options of what is run")
    run.add_argument(
        "-m", action="store_true", help="run a module by its dotted name, as python -m does"
    )
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
    nothing = "does nothing here"
    run.add_argument("-d", "--detach", action="store_true", help=nothing)
    run.add_argument("-i", "--interactive", action="store_true", help=nothing)
    run.add_argument("-e", "--env", metavar="NAME", help=nothing)
    run.add_argument("-n", "--name", metavar="NAME", help=nothing)
    run.add_argument("--timestamps", action="store_true", help=nothing)


def notice_ignored(given: argparse.Namespace) -> None:
    """Print one line for each given option that does nothing here."""
    if given.command != "run":
        return
    for name, why in _IGNORED.items():
        if getattr(given, name):
            print(f"lifecycle-magic: --{name} does nothing here: {why}", file=sys.stderr)
