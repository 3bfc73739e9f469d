"""The command line: ``lifecycle-magic run``, ``serve``, ``ps``, ``logs``, ``history``, ..."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_magic.exception import Error, InvalidError

if TYPE_CHECKING:
    from lifecycle_magic.session import Session

__all__ = ["main"]

INTERRUPTED = 130  # what shells expect of a command that SIGINT ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 when it failed, 2 for a wrong command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    given, rest = _parser().parse_known_args(words)
    if rest and given.command != "run":
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        code: int = given.do(given)
        sys.stdout.flush()  # here, and not at exit, where a reader that has left can't be handled
    except Error as error:
        print(f"lifecycle-magic: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has left (head, less). Keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lifecycle-magic",
        description="Classes in warm containers that leave with their owner.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(
        name: str, do: Callable[[argparse.Namespace], int], told: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=told, description=told)
        command.set_defaults(do=do)
        return command

    run = add("run", _run, "run a script's @app.local_entrypoint()")
    run.add_argument("script", metavar="script.py[::entrypoint]")
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="options of the entry point")
    serve = add("serve", _serve, "serve a script's web endpoints until Ctrl-C")
    serve.add_argument("script", type=Path, metavar="script.py")
    serve.add_argument(
        "--address", help="the address to listen on (default: 127.0.0.1, this machine alone)"
    )
    serve.add_argument("--no-reload", action="store_true", help="do not follow edits of the script")
    ps = add("ps", _ps, "what runs, of every kernel and script")
    ps.add_argument(
        "--images", action="store_true", help="images and volumes that are kept, with their sizes"
    )
    logs = add("logs", _logs, "what a class's or a container's processes printed")
    logs.add_argument("name", help="a class or a container")
    logs.add_argument("-n", type=int, help="how many lines (default: 50; of a build all)")
    logs.add_argument(
        "--build", action="store_true", help="what the last build of the class's image printed"
    )
    history = add("history", _history, "how containers ended")
    history.add_argument("-n", type=int, default=20, help="how many (default: 20)")
    prune = add("prune", _prune, "remove what dead sessions left and images that nothing uses")
    prune.add_argument(
        "--volumes", action="store_true", help="named volumes too, with what is in them"
    )
    prune.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add("doctor", _doctor, "check engine, sandbox, state and limits")
    demo = add("demo", _demo, "run the quickstart notebook and show what each cell printed")
    demo.add_argument("--output", type=Path, help="where the executed notebook is to lie")
    return parser


# --- run -----------------------------------------------------------------------------------------


def _run(given: argparse.Namespace) -> int:
    from lifecycle_magic import session
    from lifecycle_magic.terminal import script
    from lifecycle_magic.terminal.reporter import Reporter

    name, _, entrypoint = given.script.partition("::")
    path = Path(name)
    current = session.current()
    unsubscribe = current.bus.subscribe(Reporter(sys.stderr).take)
    try:
        module = script.load(path, given.arguments)
        function = script.entrypoint(module, entrypoint or None)
        prog = f"lifecycle-magic run {given.script}"
        script.call(function, script.parse(function, given.arguments, prog))
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted; the containers run their exit", file=sys.stderr)
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
    from lifecycle_magic import session
    from lifecycle_magic.terminal.reporter import Reporter
    from lifecycle_magic.terminal.script import report
    from lifecycle_magic.terminal.serve import Serve

    if given.address:
        os.environ["LIFECYCLE_MAGIC_WEB_ADDRESS"] = given.address
    unsubscribe = session.current().bus.subscribe(Reporter(sys.stderr).take)
    serve = Serve(given.script, lambda text: print(text, flush=True))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: serve.over.set())
    try:
        serve.run(reload=not given.no_reload)
        return 0
    except Error:
        raise
    except Exception as error:
        print(report(error, given.script), end="", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _close("serve has ended")
        unsubscribe()


def _code(left: SystemExit) -> int:
    """The exit code of a ``sys.exit(...)``, which may have been given a text."""
    if left.code is None or isinstance(left.code, int):
        return left.code or 0
    print(left.code, file=sys.stderr)
    return 1


def _close(why: str) -> None:
    """End the containers and wait for each one's exit. A further Ctrl-C leaves them to it."""
    from lifecycle_magic import session

    try:
        session.close(why)
    except KeyboardInterrupt:
        print("not waiting; `lifecycle-magic history` tells how they ended", file=sys.stderr)
        # Threads that wait for the exits would keep the process; the containers do without it.
        sys.stderr.flush()
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os._exit(INTERRUPTED)


# --- looking -------------------------------------------------------------------------------------


def _ps(given: argparse.Namespace) -> int:
    if given.images:
        from lifecycle_magic.terminal import pruning

        with _session() as current:
            print(pruning.listing(current).text())
        return 0
    from lifecycle_magic.engines import choose
    from lifecycle_magic.panel import snapshot
    from lifecycle_magic.paths import state_root

    rows = snapshot.of_root(state_root(), lambda name: choose(name)[0])
    print(snapshot.table(rows, "nothing runs").text())
    return 0


def _logs(given: argparse.Namespace) -> int:
    from lifecycle_magic.history import History
    from lifecycle_magic.panel import snapshot
    from lifecycle_magic.panel.text import last_lines, plain
    from lifecycle_magic.paths import state_root

    if given.build:
        return _build_log(given.name, given.n)
    root, lines = state_root(), 50 if given.n is None else given.n
    folders = [one for one in snapshot.run_folders(root) if given.name in (one.cls, one.container)]
    if folders:
        for folder in folders:
            if len(folders) > 1:
                print(f"--- {folder.container}")
            print(plain(folder.log(lines)), end="")
        return 0
    ended = [one for one in History(root).entries() if given.name in (one.cls, one.container)]
    if not ended:
        raise InvalidError(
            f"no class and no container is called {given.name!r}: lifecycle-magic ps lists them"
        )
    print(f"--- {ended[-1].container} is gone ({ended[-1].why}); its last lines", file=sys.stderr)
    print(last_lines(plain(ended[-1].tail), lines))
    return 0


def _build_log(name: str, lines: int | None) -> int:
    from lifecycle_magic.panel.text import last_lines, plain
    from lifecycle_magic.services import buildlog

    path = buildlog.find(name)
    if path is None:
        raise InvalidError(f"no image of a class {name!r} was built yet")
    text = plain(buildlog.read(path))
    print(text if lines is None else last_lines(text, lines), end="")
    return 0


def _history(given: argparse.Namespace) -> int:
    from lifecycle_magic.panel import told

    with _session() as current:
        current.swept()
        print(told.history(current.history.entries(), given.n))
    return 0


def _prune(given: argparse.Namespace) -> int:
    from lifecycle_magic.terminal import pruning

    with _session() as current:
        current.swept()
        ask = None if given.yes else input
        print(pruning.prune(current, volumes=given.volumes, ask=ask))
    return 0


@contextlib.contextmanager
def _session() -> Iterator[Session]:
    from lifecycle_magic import session

    try:
        yield session.current()
    finally:
        session.close("the command has ended")


def _doctor(given: argparse.Namespace) -> int:
    from lifecycle_magic.paths import state_root
    from lifecycle_magic.terminal import doctor

    findings = doctor.examine(state_root())
    print(doctor.text(findings))
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0


def _demo(given: argparse.Namespace) -> int:
    from lifecycle_magic import demo

    return demo.run(given.output)
