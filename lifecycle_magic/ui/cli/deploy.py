"""``lifecycle-magic deploy`` and ``stop``: scripts that serve in the background by name."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from lifecycle_magic.exception import Error, InvalidError, NotFoundError
from lifecycle_magic.threads import sigint
from lifecycle_magic.ui.cli.run_options import add_ignored, add_module_option

__all__ = ["add_deploy_arguments", "add_stop_arguments", "deploy", "stop"]

READY_VARIABLE = "LIFECYCLE_MAGIC_READY_FD"
"""Names the descriptor to which the background process reports that it serves."""

STOP_SECONDS = 120.0
"""How long ``stop`` waits: the exits of all containers have their grace."""

INTERRUPTED = 130  # the exit code that shells expect of a command ended by SIGINT

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_TAIL_LINES = 30


def add_deploy_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lifecycle-magic deploy``."""
    parser.set_defaults(do=deploy)
    parser.add_argument("script", metavar="script.py")
    parser.add_argument("--name", help="name of the deployment (default: that of the script)")
    parser.add_argument(
        "--foreground", action="store_true", help="serve in this process until Ctrl-C"
    )
    add_module_option(parser)
    add_ignored(parser, "deploy")


def add_stop_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lifecycle-magic stop``."""
    parser.set_defaults(do=stop)
    parser.add_argument("name", help="the name of the deployment, kept class or container")


def deploy(given: argparse.Namespace) -> int:
    """Serve a script in the background, or in this process with ``--foreground``."""
    own = given.script.rpartition(".")[2] if given.m else Path(given.script).stem
    name = given.name or own
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name!r} can't be the name of a deployment: it takes letters, digits, '_', '-' and "
            "'.'. Fix: --name my-model"
        )
    start = _serve if given.foreground else _start
    return start(given.script, given.m, name)


def _start(script: str, is_module: bool, name: str) -> int:
    """Start the background process, and wait until it serves."""
    from lifecycle_magic.host.paths import private_folder, state_root

    if not is_module and not Path(script).is_file():
        raise InvalidError(f"{script} is not a file. Fix: give the path of a Python script")
    log = private_folder(state_root() / "deployments") / f"{name}.log"
    with contextlib.suppress(FileNotFoundError):
        log.replace(log.with_suffix(".log.1"))  # an older deployment may still write to it
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "lifecycle_magic", "deploy", "--foreground"]
    with open(reading) as ready, open(log, "ab", opener=_private) as output:
        process = subprocess.Popen(
            [*command, "--name", name, *(["-m"] if is_module else []), script],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[writing],
            env={**os.environ, READY_VARIABLE: str(writing)},
            start_new_session=True,  # neither Ctrl-C nor the end of the terminal reaches it
        )
        os.close(writing)
        try:
            names = ready.read().split()  # until it serves, or has failed
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)
            process.wait()
            print(f"\ninterrupted; {name} is not deployed", file=sys.stderr)
            return INTERRUPTED
    if not names:
        process.wait()
        print(_tail(log), end="", file=sys.stderr)
        print(f"lifecycle-magic: {name} does not serve; the log is {log}", file=sys.stderr)
        return 1
    process.returncode = 0  # it goes on by itself: no warning when this object ends
    print(f"{name} serves {', '.join(names)} (process {process.pid}, log {log})")
    print(f"stop it with: lifecycle-magic stop {name}")
    return 0


def _serve(script: str, is_module: bool, name: str) -> int:
    from lifecycle_magic.session import session
    from lifecycle_magic.ui.cli import reporter
    from lifecycle_magic.ui.cli.deployed import LEAVE_SIGNAL, Deployed
    from lifecycle_magic.ui.cli.script import report

    writing = os.environ.pop(READY_VARIABLE, None)
    if writing is not None:
        os.set_inheritable(int(writing), False)

    def ready(names: list[str]) -> None:
        if writing is None:
            print(f"{name} serves {', '.join(names)}", flush=True)
            return
        with open(int(writing), "w") as pipe:
            pipe.write("\n".join(names))

    deployed = Deployed(script, is_module, name, lambda text: print(text, flush=True))
    sigint.call_instead(deployed.stop, signal.SIGINT, signal.SIGTERM)
    sigint.call_instead(deployed.leave, LEAVE_SIGNAL)
    unsubscribe = reporter.report(session.current().bus, sys.stderr)
    try:
        deployed.run(ready)
        return 0
    except Error:
        raise
    except Exception as error:
        print(report(error, Path(script)), end="", file=sys.stderr)
        return 1
    finally:
        session.close(
            "a newer deployment has replaced it" if deployed.replaced.is_set() else "it was stopped"
        )
        unsubscribe()


def stop(given: argparse.Namespace) -> int:
    """Stop a deployment: end its process, wait, and print how its containers ended."""
    from lifecycle_magic.engines.process import process_table
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.lifecycle.history import History
    from lifecycle_magic.ui.cli.deployed import deployments
    from lifecycle_magic.ui.panel import history_text

    root = state_root()
    found = deployments(root, given.name)
    if not found and (code := _stop_kept(root, given.name)) is not None:
        return code
    if not found:
        others = sorted({one.deployment for one in deployments(root)})
        there = f"there are {', '.join(others)}" if others else "there is none"
        raise NotFoundError(
            f"no deployment is named {given.name!r}: {there}. Fix: name one of these, or for a "
            f"class of a notebook run %lifecycle stop {given.name} there"
        )
    for one in found:
        os.kill(one.owner.pid, signal.SIGTERM)
    process_table.wait_gone([one.owner for one in found], STOP_SECONDS)
    sessions = {one.session for one in found}
    for entry in History(root).entries():
        if entry.session in sessions:
            print(history_text.entry(entry))
    left = [one for one in found if one.owner.alive()]
    for one in left:
        print(f"lifecycle-magic: process {one.owner.pid} still runs", file=sys.stderr)
    if not left:
        print(f"{given.name} is stopped")
    return 1 if left else 0


def _stop_kept(root: Path, name: str) -> int | None:
    """Stop the containers that ended kernels have kept: of a class, or one of this name.

    Return the exit code, or None if there are none.
    """
    from lifecycle_magic.container import kept
    from lifecycle_magic.session import session
    from lifecycle_magic.ui.panel import history_text

    records = [
        one.record
        for one in kept.find_all(root)
        if name in (one.record.cls, one.record.key, one.record.container)
    ]
    if not records:
        return None
    left = kept.stop_all(records, "lifecycle-magic stop")
    try:
        current = session.current()
        current.sweep_again()
        names = {one.container for one in records}
        for entry in current.history.entries():
            if entry.container in names:
                print(history_text.entry(entry))
    finally:
        session.close("the command has ended")
    for one in left:
        print(f"lifecycle-magic: {one.container} still runs", file=sys.stderr)
    return 1 if left else 0


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines(keepends=True)
    return "".join(lines[-_TAIL_LINES:])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
