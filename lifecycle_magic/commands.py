"""The subcommands of ``%lifecycle``, each a function of the session and its arguments."""

from __future__ import annotations

import argparse
import difflib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifecycle_magic.arguments import Parser
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.panel import snapshot, told
from lifecycle_magic.panel.text import Table, last_lines, plain
from lifecycle_magic.pools.replacing import replace
from lifecycle_magic.services import buildlog

if TYPE_CHECKING:
    from lifecycle_magic.containers.container import Container
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.session import Session

__all__ = ["complete", "describe", "run", "told_gone"]


@dataclass(frozen=True)
class _Command:
    usage: str
    help: str
    run: Callable[[Session, argparse.Namespace], str | Table]
    arguments: tuple[str, ...] = ()


def run(line: str, session: Session) -> str | Table:
    """Do what the line says; the result is to be shown. Raises `InvalidError` for a wrong line."""
    try:
        words = shlex.split(line) or ["ps"]
    except ValueError as error:
        raise InvalidError(f"%lifecycle {line}: {error}; close the quotes") from None
    name, *rest = words
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise InvalidError(f"%lifecycle has no command {name!r}: {hint}")
    return command.run(session, _parser(name, command).parse_args(rest))


def describe() -> str:
    """Every command with its meaning, as ``%lifecycle?`` shows it."""
    rows = [(f"{name} {c.usage}".rstrip(), c.help) for name, c in COMMANDS.items()]
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"  {left:<{width}}  {right}" for left, right in rows)


def complete(line: str, session: Session | None) -> list[str]:
    """What may follow in a ``%lifecycle`` line: commands, then names of classes and containers."""
    words = line.lstrip().lstrip("%").split()
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        return list(COMMANDS)
    if session is None or "NAME" not in COMMANDS.get(words[1], _NONE).usage:
        return []
    return _names(session)


def _parser(name: str, command: _Command) -> Parser:
    parser = Parser(f"%lifecycle {name}")
    for argument in command.arguments:
        _ADD[argument](parser)
    return parser


_ADD: dict[str, Callable[[Parser], object]] = {
    "name": lambda p: p.add_argument("name"),
    "name?": lambda p: p.add_argument("name", nargs="?"),
    "-n?": lambda p: p.add_argument("-n", type=int),
    "--build": lambda p: p.add_argument("--build", action="store_true"),
    "-n": lambda p: p.add_argument("-n", type=int, default=20),
    "--all": lambda p: p.add_argument("--all", action="store_true"),
    "--images": lambda p: p.add_argument("--images", action="store_true"),
    "--volumes": lambda p: p.add_argument("--volumes", action="store_true"),
    "-y": lambda p: p.add_argument("-y", "--yes", action="store_true"),
}


# --- what they do --------------------------------------------------------------------------------


def _ps(session: Session, given: argparse.Namespace) -> Table:
    if given.images:
        from lifecycle_magic.terminal import pruning

        return pruning.listing(session)
    if given.all:
        session.swept()
        return snapshot.table(snapshot.of_root(session.root, session.engine))
    rows = snapshot.of_session(session)
    return snapshot.table(rows, snapshot.NOTHING, snapshot.addresses(session))


def _logs(session: Session, given: argparse.Namespace) -> str:
    path = buildlog.find(given.name) if given.build else None
    if path is not None:
        text = plain(buildlog.read(path))
        return text if given.n is None else last_lines(text, given.n)
    services, containers = _called(session, given.name)
    if given.build:
        return f"no image of {given.name} was built yet"
    count = 20 if given.n is None else given.n
    texts = {service.key: session.logs(service.key) for service in services}
    if not services:
        texts = {one.name: session.logs(one.plan.service, one.name) for one in containers}
    told = []
    for name, whole in texts.items():
        text = last_lines(plain(whole), count) or f"{given.name} has printed nothing yet"
        told.append(text if len(texts) == 1 else f"{name}:\n{text}")
    return "\n".join(told)


def _stop(session: Session, given: argparse.Namespace) -> str:
    from lifecycle_magic.session import wait_gone

    if given.name is None:
        going = session.stop(why="%lifecycle stop")
    else:
        services, going = _called(session, given.name)
        if services:
            keys = [key for key, service in session.services.items() if service in services]
            going = session.stop(keys, "%lifecycle stop")
        else:
            for container in going:
                container.end("%lifecycle stop")
    if not going:
        return "nothing was running"
    wait_gone(going)
    return told_gone(session, going)


def _restart(session: Session, given: argparse.Namespace) -> str:
    services, containers = _called(session, given.name)
    pools = [pool for service in services for pool in service.pools.values() if pool.containers]
    for container in containers if not services else ():
        pools += [
            pool
            for service in session.services.values()
            for pool in service.pools.values()
            if container in pool.containers and pool not in pools
        ]
    if not pools:
        for service in services:
            service.pool((), {}).warm()
        return f"{given.name}: nothing was running, so one container was started"
    replace(pools, "%lifecycle restart")
    return f"{given.name}: new containers are warm, the former ones run their exit"


def _history(session: Session, given: argparse.Namespace) -> str:
    session.swept()
    return told.history(session.history.entries(), given.n)


def _doctor(session: Session, given: argparse.Namespace) -> str:
    from lifecycle_magic.terminal import doctor

    return doctor.text(doctor.examine(session.root))


def _why(session: Session, given: argparse.Namespace) -> str:
    services, containers = _called(session, given.name)
    keys = {container.plan.service for container in containers}
    chosen = services or [one for one in session.services.values() if one.key in keys]
    return "\n".join(service.why() for service in chosen)


def _prune(session: Session, given: argparse.Namespace) -> str:
    from lifecycle_magic.terminal import pruning

    session.swept()
    ask = None if given.yes else input
    return pruning.prune(session, everything=given.all, volumes=given.volumes, ask=ask)


COMMANDS = {
    "ps": _Command(
        "[--all] [--images]",
        "what runs in this session or in every one, or what is kept, with sizes",
        _ps,
        ("--all", "--images"),
    ),
    "logs": _Command(
        "NAME [-n N] [--build]",
        "what a class's containers printed, or the last build of its image",
        _logs,
        ("name", "-n?", "--build"),
    ),
    "stop": _Command("[NAME]", "end containers, with their exit, and wait", _stop, ("name?",)),
    "restart": _Command(
        "NAME", "new containers first, then the former ones go", _restart, ("name",)
    ),
    "history": _Command(
        "[-n N]", "how containers ended, of earlier sessions too", _history, ("-n",)
    ),
    "why": _Command("NAME", "what changed with a class's last build", _why, ("name",)),
    "doctor": _Command("", "check engine, sandbox, state and limits", _doctor),
    "prune": _Command(
        "[--all] [--volumes] [-y]",
        "remove images, or volumes too, that nothing uses",
        _prune,
        ("--all", "--volumes", "-y"),
    ),
}
_NONE = _Command("", "", _ps)


def told_gone(session: Session, containers: Sequence[Container]) -> str:
    """How these containers, which are gone, ended."""
    names = {one.name for one in containers if not one.is_spare}  # of those nothing is told
    entries = [one for one in session.history.entries() if one.container in names]
    lines = [told.entry(one) for one in entries]
    ended = {one.container for one in entries}
    lines += [f"{name} is still on its way out" for name in sorted(names - ended)]
    return "\n".join(lines)


# --- names ---------------------------------------------------------------------------------------


def _names(session: Session) -> list[str]:
    classes = [service.name for service in session.services.values()]
    return [*dict.fromkeys(classes), *(c.name for c in session.containers())]


def _called(session: Session, name: str) -> tuple[list[Service], list[Container]]:
    """The services of the class with this name or key, or the one container; raises `InvalidError`.

    Two apps may have a class of one name, and a class several options: the key tells them apart.
    """
    services = [one for one in session.services.values() if name in (one.name, one.key)]
    containers = [c for c in session.containers() if c.name == name]
    if services or containers:
        return services, containers
    names = _names(session)
    near = difflib.get_close_matches(name, names, n=1)
    if not names:
        hint = "this session has none yet"
    else:
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    raise InvalidError(f"no class and no container is called {name!r}: {hint}")
