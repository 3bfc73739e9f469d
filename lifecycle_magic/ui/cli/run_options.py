"""The options of ``run``, ``serve`` and ``deploy``: those of Modal's commands."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lifecycle_magic.modal_api.table import notes

__all__ = ["EXAMPLES", "add_ignored", "add_module_option", "add_run_arguments", "notice_ignored"]

EXAMPLES = {
    "run": """
  lifecycle-magic run app.py --x 3              the entry point, with an option
  lifecycle-magic run app.py::square --x 3      a function
  lifecycle-magic run app.py::Model.get --x 3   a method; so are options of the constructor
  lifecycle-magic run -m package.module::main   a module, as python -m finds it
  lifecycle-magic run app.py --help             the options of the entry point""",
    "serve": """
  lifecycle-magic serve app.py                  until Ctrl-C, following edits
  lifecycle-magic serve app.py --timeout 60     for a minute""",
    "deploy": """
  lifecycle-magic deploy app.py                 until lifecycle-magic stop app
  lifecycle-magic deploy app.py --name model""",
    "shell": """
  lifecycle-magic shell app.py::Model           a shell with the image and volumes of a class
  lifecycle-magic shell app.py::square -c 'pip list' > list.txt
  lifecycle-magic shell --image debian:12 --add-python 3.12 --volume data""",
    "volume": """
  lifecycle-magic volume put data ./images /images
  lifecycle-magic volume ls data /images
  lifecycle-magic volume get data /images/a.png .
  lifecycle-magic volume get data notes.txt -   to the standard output""",
    "secret": """
  lifecycle-magic secret create hf HF_TOKEN=-   asks for the value
  lifecycle-magic secret create aws --from-dotenv .env""",
    "swarm": """
  lifecycle-magic swarm registry                a registry that gives the nodes images of classes
  lifecycle-magic swarm registry --remove""",
    "doctor": """
  lifecycle-magic doctor                        this machine
  lifecycle-magic doctor --modal app.py         what a script written for Modal has to change""",
    "logs": """
  lifecycle-magic logs Model -n 100             what the containers of a class printed
  lifecycle-magic logs Model --follow           and what they print until they stop
  lifecycle-magic logs Model --build            what its image build printed""",
}
"""What the help of a command ends with."""

_VALUES = ("--env", "--profile", "--name", "--tag", "--strategy")


def add_run_arguments(run: argparse.ArgumentParser) -> None:
    """Add the options and arguments of ``run`` to its parser."""
    run.add_argument(
        "script",
        metavar="script.py[::name]",
        help="name: an entry point, a function, Class.method, or app.name of these; "
        "- is a script on the standard input",
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
    """Add the options of Modal's command that do nothing here, and that no help shows."""
    flags: list[str] = []
    for flag in notes(command, "ignored"):
        flags.append(flag)
        if not flag.startswith("--"):
            continue  # the short form of the next one
        if flag in _VALUES:
            parser.add_argument(*flags, metavar="NAME", help=argparse.SUPPRESS)
        else:
            parser.add_argument(*flags, action="store_true", help=argparse.SUPPRESS)
        flags = []


def notice_ignored(given: argparse.Namespace) -> None:
    """Print one line for each given option that does nothing here."""
    for flag, why in notes(given.command, "ignored").items():
        if flag.startswith("--") and getattr(given, flag[2:].replace("-", "_"), None):
            print(f"lifecycle-magic: {flag} does nothing here: {why}", file=sys.stderr)
