"""The subcommands of ``%lifecycle``: each is a function of the session and its arguments."""

from __future__ import annotations

import argparse
import difflib
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_magic.building import build_log
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.pool.replacement import replace
from lifecycle_magic.ui import reachable
from lifecycle_magic.ui import restart as restarting
from lifecycle_magic.ui.command_table import COMMANDS, LOG_LINES, Command
from lifecycle_magic.ui.notebook.options_line import MagicParser
from lifecycle_magic.ui.panel import history_text, snapshot
from lifecycle_magic.ui.panel.text import Table, last_lines, plain

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.container.kept import KeptContainer
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.session.session import Session

__all__ = ["complete", "describe_ended", "examined", "parse", "run"]


Handler = Callable[["Session", argparse.Namespace], "str | Table"]


def run(line: str, session: Session, shell: Any = None) -> str | Table:
    """Run one ``%lifecycle`` line of a shell and return what to display.

    Raises `InvalidError` for an unknown command, argument, class or container.
    """
    command, given = parse(line)
    given.shell = shell
    return _HANDLERS[command.name](session, given)


def parse(line: str) -> tuple[Command, argparse.Namespace]:
    """Return the command that the line names, and its arguments. Raises `InvalidError`."""
    try:
        words = shlex.split(line) or ["ps"]
    except ValueError as error:
        raise InvalidError(f"%lifecycle {line}: {error}. Fix: close the quotes") from None
    name, *rest = words
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise InvalidError(f"%lifecycle has no command {name!r}: {hint}")
    parser = MagicParser(f"%lifecycle {name}")
    command.add_to(parser, "notebook")
    return command, parser.parse_args(rest)


def complete(line: str, session: Session | None) -> list[str]:
    """Return completions of a ``%lifecycle`` line: commands, or names of classes and containers."""
    words = line.lstrip().lstrip("%").split()
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        return list(COMMANDS)
    command = COMMANDS.get(words[1])
    return _names(session) if session is not None and command and command.takes_name else []


# --- the commands --------------------------------------------------------------------------------


def _ps(session: Session, given: argparse.Namespace) -> Table:
    if given.images:
        from lifecycle_magic.ui import prune

        return prune.listing(session)
    if given.all:
        session.sweep_again()
        rows = snapshot.of_root(session.root, session.engine)
        return snapshot.table(rows, below=snapshot.failures(rows))
    rows = (*snapshot.of_session(session), *snapshot.kept(session.root))
    below = (*snapshot.failures(rows), *snapshot.addresses(session))
    return snapshot.table(rows, snapshot.NOTHING, below)


def _apps(session: Session, given: argparse.Namespace) -> Table:
    return reachable.listing(session.root)


def _logs(session: Session, given: argparse.Namespace) -> str:
    path = build_log.find(given.name) if given.build else None
    if path is not None:
        text = plain(build_log.read(path))
        return text if given.n is None else last_lines(text, given.n)
    services, containers = _called(session, given.name)
    if given.build:
        return f"no image of {given.name} has been built yet"
    count = LOG_LINES if given.n is None else given.n
    texts = {service.key: session.logs(service.key) for service in services}
    if not services:
        texts = {one.name: session.logs(one.plan.service, one.name) for one in containers}
    parts = []
    for name, whole in texts.items():
        text = last_lines(plain(whole), count) or f"{given.name} has printed nothing yet"
        parts.append(text if len(texts) == 1 else f"{name}:\n{text}")
    return "\n".join(parts)


def _stop(session: Session, given: argparse.Namespace) -> str:
    from lifecycle_magic.session.session import wait_gone

    kept = [one for one in session.kept() if given.name in (None, *_names_of(one))]
    if given.name is None:
        ending = session.stop(why="%lifecycle stop")
    elif kept and given.name not in _names(session):
        ending = []
    else:
        services, ending = _called(session, given.name)
        if services:
            keys = [key for key, service in session.services.items() if service in services]
            ending = session.stop(keys, "%lifecycle stop")
        else:
            for container in ending:
                container.end(Ending(EndKind.STOP, "%lifecycle stop"))
    names = session.stop_kept(kept, "%lifecycle stop")
    if not ending and not names:
        return "nothing was running"
    wait_gone(ending)
    return describe_ended(session, ending, names)


def _names_of(kept: KeptContainer) -> tuple[str, ...]:
    return kept.record.cls, kept.record.key, kept.record.container


def _restart(session: Session, given: argparse.Namespace) -> str:
    services, containers = _called(session, given.name)
    if services:
        started = restarting.restart(services, "%lifecycle restart")
        if started:
            many = "one container was" if started == 1 else f"{started} containers were"
            return f"{given.name}: nothing was running, so {many} started"
    else:
        pools = [
            pool
            for service in list(session.services.values())
            for pool in restarting.running_pools(service)
            if any(one in pool.containers for one in containers)
        ]
        if not pools:
            cls = containers[0].plan.cls
            raise InvalidError(f"{given.name} is stopping. Fix: %lifecycle restart {cls}")
        replace(pools, "%lifecycle restart")
    return f"{given.name}: new containers are ready; the previous ones run their exit hooks"


def _history(session: Session, given: argparse.Namespace) -> str:
    session.sweep_again()
    return history_text.history(session.history.entries(), given.n)


def examined() -> str:
    """Return the report of ``doctor``, which needs no session."""
    from lifecycle_magic.host.paths import chosen_root
    from lifecycle_magic.ui import doctor

    return doctor.text(doctor.examine(chosen_root()))


def _doctor(session: Session, given: argparse.Namespace) -> str:
    return examined()


def _why(session: Session, given: argparse.Namespace) -> str:
    services, containers = _called(session, given.name)
    keys = {container.plan.service for container in containers}
    chosen = services or [one for one in session.services.values() if one.key in keys]
    from lifecycle_magic.ui import edits

    return "\n".join(edits.why(service) for service in chosen)


def _diff(session: Session, given: argparse.Namespace) -> str:
    from lifecycle_magic.ui import edits

    services, containers = _called(session, given.name)
    keys = {container.plan.service for container in containers}
    chosen = services or [one for one in session.services.values() if one.key in keys]
    return "\n".join(edits.diff(service, given.shell, given.notebook) for service in chosen)


def _export(session: Session, given: argparse.Namespace) -> str:
    from lifecycle_magic.ui.export import cells, command

    target = Path(given.script).expanduser()
    found = cells.of_shell(given.shell)
    return command.write(
        found, given.names, target, given.shell.user_ns, given.dockerfile, modal=given.modal
    )


def _debug(session: Session, given: argparse.Namespace) -> str:
    from lifecycle_magic.ui import post_mortem

    containers = session.containers()
    if given.name is not None:
        services, containers = _called(session, given.name)
        containers = [one for service in services for one in service.containers()] or containers
    post_mortem.debug_newest(session, containers)
    return ""


def _prune(session: Session, given: argparse.Namespace) -> str:
    from lifecycle_magic.ui import prune

    session.sweep_again()
    ask = None if given.yes else input
    return prune.prune(session, everything=given.all, volumes=given.volumes, ask=ask)


_HANDLERS: dict[str, Handler] = {
    "ps": _ps,
    "apps": _apps,
    "logs": _logs,
    "stop": _stop,
    "restart": _restart,
    "history": _history,
    "why": _why,
    "diff": _diff,
    "export": _export,
    "debug": _debug,
    "doctor": _doctor,
    "prune": _prune,
}


def describe_ended(
    session: Session, containers: Sequence[Container], kept: Sequence[str] = ()
) -> str:
    """Return how these containers ended, a line or more for each.

    ``kept`` names those of earlier kernels.
    """
    names = {one.name for one in containers if not one.is_spare}  # spares never ran a class
    names |= set(kept)
    entries = [one for one in session.history.entries() if one.container in names]
    lines = [history_text.entry(one) for one in entries]
    ended = {one.container for one in entries}
    lines += [f"{name} has not exited yet" for name in sorted(names - ended)]
    return "\n".join(lines)


# --- names ---------------------------------------------------------------------------------------


def _names(session: Session) -> list[str]:
    classes = [service.name for service in session.services.values()]
    return [*dict.fromkeys(classes), *(c.name for c in session.containers())]


def _called(session: Session, name: str) -> tuple[list[Service], list[Container]]:
    """Return the services of the class with this name or key, or the container with this name.

    Two apps may have classes of the same name, and a class may have several sets of options; the
    key is unique. Raises `InvalidError` if there is no such class and no such container.
    """
    services = [one for one in session.services.values() if name in (one.name, one.key)]
    containers = [c for c in session.containers() if c.name == name]
    if services or containers:
        return services, containers
    names = _names(session)
    near = difflib.get_close_matches(name, names, n=1)
    if not names:
        hint = "this session has no class yet. Fix: run a cell with %%lifecycle_cls"
    else:
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    raise InvalidError(f"no class or container is named {name!r}: {hint}")
