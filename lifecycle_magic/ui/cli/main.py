"""The command line: ``lifecycle-magic run``, ``serve``, ``ps``, ``logs``, ``history``, ..."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from lifecycle_magic import __version__
from lifecycle_magic.exception import Error
from lifecycle_magic.threads import sigint
from lifecycle_magic.ui.cli import completion, status
from lifecycle_magic.ui.cli.as_json import print_json
from lifecycle_magic.ui.cli.parser import Parser
from lifecycle_magic.ui.cli.run_options import (
    EXAMPLES,
    add_ignored,
    add_module_option,
    add_run_arguments,
    notice_ignored,
)
from lifecycle_magic.ui.command_table import COMMANDS

__all__ = ["main"]

INTERRUPTED = 130  # the exit code that shells expect of a command ended by SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 if it failed, 2 for a wrong command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    completion.answer(parser)
    given = parser.parse_args(words)
    notice_ignored(given)
    if arguments is None and given.command in ("run", "serve", "deploy", "shell"):
        from lifecycle_magic.ui.cli.main_module import drop_launcher_path

        drop_launcher_path()
    try:
        code: int = given.do(given)
        sys.stdout.flush()  # not at exit, where a closed pipe can't be handled
    except Error as error:
        print(f"lifecycle-magic: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has exited (head, less). Keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parser() -> Parser:
    parser = Parser(
        prog="lifecycle-magic",
        description="Run Python classes in warm containers that exit with their owner.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, help: str, declare: Callable[[Parser], None]) -> None:
        examples = f"examples:{EXAMPLES[name]}" if name in EXAMPLES else None
        command = commands.add_parser(
            name,
            help=help,
            description=help,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            declare=declare,
        )
        command.set_defaults(parser=command)

    add("run", "run a script's @app.local_entrypoint(), a function or a method", _declare_run)
    add("serve", "serve a script's web endpoints until Ctrl-C", _declare_serve)
    for name in ("deploy", "stop"):
        add(name, *_of_module(name))
    for name in _SHARED:
        add(name, COMMANDS[name].help, partial(_declare_shared, name))
    for name in ("shell", "app", "volume", "queue", "dict", "swarm", "secret", "completion"):
        add(name, *_of_module(name))
    add("drain", "end every session of this user and wait for the exit hooks", _declare_drain)
    add("demo", "run the quickstart notebook and show what each cell printed", _declare_demo)
    return parser


_OF_MODULES = {
    "deploy": ("serve a script in the background, by name", "deploy.add_deploy_arguments"),
    "stop": (
        "stop a deployment, or what a kernel has kept, and print how it ended",
        "deploy.add_stop_arguments",
    ),
    "shell": (
        "open a shell in a container with a class's image and settings",
        "shell.add_arguments",
    ),
    "app": ("list apps, print their output, stop them", "apps.add_arguments"),
    "volume": ("named volumes and the files in them", "volumes.add_arguments"),
    "queue": ("the queues of living sessions", "objects.add_queue_arguments"),
    "dict": ("the dictionaries of living sessions", "objects.add_dict_arguments"),
    "swarm": ("set up what classes need on a Docker swarm", "swarm.add_arguments"),
    "secret": ("store, list and remove named secrets", "secrets.add_arguments"),
    "completion": (
        "print a script that lets a shell complete this command",
        "completion.add_arguments",
    ),
}
"""The help of a command, and what declares it: imported if the command is asked for."""


def _of_module(name: str) -> tuple[str, Callable[[Parser], None]]:
    help, place = _OF_MODULES[name]

    def declare(command: Parser) -> None:
        module, _, function = place.partition(".")
        getattr(import_module(f"lifecycle_magic.ui.cli.{module}"), function)(command)

    return help, declare


def _declare_run(command: Parser) -> None:
    command.set_defaults(do=_run)
    add_run_arguments(command)


def _declare_serve(command: Parser) -> None:
    command.set_defaults(do=_serve)
    command.add_argument("script", metavar="script.py")
    command.add_argument(
        "--address", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    command.add_argument(
        "--no-reload", action="store_true", help="do not reload the script when it changes"
    )
    command.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="stop after this time (default: Ctrl-C)"
    )
    add_module_option(command)
    add_ignored(command, "serve")


def _declare_shared(name: str, command: Parser) -> None:
    command.set_defaults(do=_SHARED[name])
    COMMANDS[name].add_to(command, "terminal")
    if name == "doctor":
        command.add_argument(
            "--modal",
            nargs="+",
            type=Path,
            metavar="script.py",
            help="list what scripts or notebooks written for Modal have to change; no code runs",
        )


def _declare_drain(command: Parser) -> None:
    command.set_defaults(do=_drain)
    command.add_argument(
        "--timeout", type=float, default=30.0, help="longest wait in seconds (default: 30)"
    )


def _declare_demo(command: Parser) -> None:
    command.set_defaults(do=_demo)
    command.add_argument("--output", type=Path, help="path of the executed notebook")


# --- run -----------------------------------------------------------------------------------------


def _run(given: argparse.Namespace) -> int:
    from lifecycle_magic.session import session
    from lifecycle_magic.ui.cli import reporter, script
    from lifecycle_magic.ui.cli.entry_options import parse
    from lifecycle_magic.ui.cli.main_module import load
    from lifecycle_magic.ui.cli.runnable import find

    name, _, wanted = given.script.partition("::")
    current = session.current()
    unsubscribe = reporter.report(current.bus, sys.stderr, quiet=given.quiet)
    path = Path(name)
    try:
        module = load(name, given.m, given.arguments)
        path = Path(module.__file__ or "")
        dash = "-m " if given.m else ""
        found = find(module, wanted or None, f"-m {name}" if given.m else None)
        prog = f"lifecycle-magic run {dash}{given.script}"
        value = found.call(parse(found.parameters, given.arguments, prog, found.about))
        if given.write_result is not None:
            script.write_result(given.write_result, value)
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted; the containers run their exit hooks", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as left:
        return _code(left)
    except Exception as error:
        print(script.report(error, path), end="", file=sys.stderr)
        return 1
    finally:
        _close("the script has ended")
        unsubscribe()


def _serve(given: argparse.Namespace) -> int:
    from lifecycle_magic.session import session
    from lifecycle_magic.ui.cli import reporter
    from lifecycle_magic.ui.cli.script import report
    from lifecycle_magic.ui.cli.serve import Serve

    if given.address:
        os.environ["LIFECYCLE_MAGIC_WEB_ADDRESS"] = given.address
    unsubscribe = reporter.report(session.current().bus, sys.stderr)
    serve = Serve(given.script, given.m, lambda text: print(text, flush=True))
    if given.timeout is not None:
        ending = threading.Timer(given.timeout, serve.over.set)
        ending.daemon = True
        ending.start()
    sigint.call_instead(serve.over.set, signal.SIGINT, signal.SIGTERM)
    try:
        serve.run(reload=not given.no_reload)
        return 0
    except Error:
        raise
    except Exception as error:
        print(report(error, serve.path), end="", file=sys.stderr)
        return 1
    finally:
        sigint.raise_again()
        _close("serve has ended")
        unsubscribe()


def _code(left: SystemExit) -> int:
    """Return the exit code of a ``sys.exit(...)``; print its argument if that is a message."""
    if left.code is None or isinstance(left.code, int):
        return left.code or 0
    print(left.code, file=sys.stderr)
    return 1


def _close(why: str) -> None:
    """Stop the containers and wait for their exit hooks. Another Ctrl-C ends only the wait."""
    from lifecycle_magic.session import session

    try:
        session.close(why)
    except KeyboardInterrupt:
        print(
            "not waiting; `lifecycle-magic history` shows how the containers ended",
            file=sys.stderr,
        )
        # Threads that wait for the exits would keep this process alive without need.
        sys.stderr.flush()
        sys.stdout.flush()
        sigint.end_process_instead()
        os._exit(INTERRUPTED)


# --- other commands ------------------------------------------------------------------------------


def _drain(given: argparse.Namespace) -> int:
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.ui.cli.drain import drain
    from lifecycle_magic.ui.panel.text import plain

    drained = drain(state_root(), given.timeout, say=lambda line: print(plain(line), flush=True))
    for line in drained.left:
        print(f"lifecycle-magic: after {given.timeout:g} s: {plain(line)}", file=sys.stderr)
    return 1 if drained.left else 0


def _doctor(given: argparse.Namespace) -> int:
    if given.modal:
        return _check_modal(given)
    from lifecycle_magic.host.paths import chosen_root
    from lifecycle_magic.ui import doctor

    findings = doctor.examine(chosen_root())
    if given.json:
        print_json(findings)
    else:
        print(doctor.text(findings))
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0


def _check_modal(given: argparse.Namespace) -> int:
    """List what scripts written for Modal have to change; return 1 if there is something."""
    from lifecycle_magic.ui.modal_check import report

    checked = [report.check(path) for path in given.modal]
    if given.json:
        print_json({"file": str(one.path), **use._asdict()} for one in checked for use in one.uses)
    else:
        print("\n".join(map(report.text, checked)))
    return 1 if any(one.changes for one in checked) else 0


def _demo(given: argparse.Namespace) -> int:
    from lifecycle_magic.ui.cli import demo

    return demo.run(given.output)


def _export(given: argparse.Namespace) -> int:
    from lifecycle_magic.ui.export import cells, command

    found = cells.of_file(Path(given.notebook))
    target = Path(given.script)
    print(command.write(found, given.names, target, None, given.dockerfile, modal=given.modal))
    return 0


_SHARED: dict[str, Callable[[argparse.Namespace], int]] = {
    "ps": status.ps,
    "apps": status.apps,
    "logs": status.logs,
    "why": status.why,
    "diff": status.diff,
    "history": status.history,
    "prune": status.prune,
    "doctor": _doctor,
    "export": _export,
}
"""The commands that ``%lifecycle`` has too: `lifecycle_magic.ui.command_table` declares them."""
