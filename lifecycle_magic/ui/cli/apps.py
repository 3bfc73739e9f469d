"""``lifecycle-magic app list|logs|stop``: the apps that sessions of this user serve by name."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.host.served_names import Served
from lifecycle_magic.ui.cli import status
from lifecycle_magic.ui.cli.deploy import stop
from lifecycle_magic.ui.command_table import LOG_LINES

if TYPE_CHECKING:
    from lifecycle_magic.ui.panel.snapshot import RunFolder

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of ``app`` to its parser."""
    parser.set_defaults(do=run)
    actions = parser.add_subparsers(dest="action", metavar="list|logs|stop", required=True)
    listing = actions.add_parser("list", help="list apps and what they serve")
    listing.add_argument("--json", action="store_true", help="print JSON")
    logs = actions.add_parser("logs", help="print the output of an app's containers")
    logs.add_argument("name", help="the name of an app or of a deployment")
    logs.add_argument(
        "-n",
        "--tail",
        type=int,
        default=LOG_LINES,
        metavar="N",
        help=f"number of lines of each container (default: {LOG_LINES})",
    )
    logs.add_argument(
        "-f", "--follow", action="store_true", help="go on printing until the app stops"
    )
    stopping = actions.add_parser("stop", help="stop a deployed app")
    stopping.add_argument("name", help="the name of an app or of a deployment")
    stopping.add_argument(
        "-y", "--yes", action="store_true", help="accepted, as there is no question"
    )
    for action in (listing, logs, stopping):
        action.set_defaults(parser=action)


def run(given: argparse.Namespace) -> int:
    """Run the subcommand and return its exit code."""
    if given.action == "list":
        return status.apps(given)
    if given.action == "logs":
        return _logs(given.name, given.tail, given.follow)
    return _stop(given)


def _serving(name: str) -> list[Served]:
    """Return the living sessions that serve an app, or are a deployment, of this name."""
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.host.served_names import living

    return [one for one in living(state_root()) if name == one.deployment or name in one.names]


def _classes(served: Served, name: str) -> set[str]:
    apps = [served.names[name]] if name in served.names else served.names.values()
    return {cls for names in apps for cls in names}


def _folders(name: str) -> tuple[bool, list[RunFolder]]:
    """Return whether a living session serves the name, and the containers' run folders."""
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.ui.panel import snapshot

    serving = {one.session: _classes(one, name) for one in _serving(name)}
    found = snapshot.run_folders(state_root())
    return bool(serving), [one for one in found if one.cls in serving.get(one.session, ())]


def _logs(name: str, lines: int, follows: bool) -> int:
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.lifecycle.history import History
    from lifecycle_magic.ui.panel.text import last_lines, plain

    root = state_root()
    serving, folders = _folders(name)
    if follows and serving:
        from lifecycle_magic.ui.cli.followed_logs import follow

        with contextlib.suppress(KeyboardInterrupt):  # the usual end
            follow(lambda: _folders(name), lines)
        return 0
    for folder in folders:
        print(f"--- {plain(folder.cls)} ({folder.container})")
        print(plain(folder.log(lines)), end="")
    if folders:
        return 0
    ended = [one for one in History(root).entries() if one.service.startswith(f"{name}/")]
    if not ended:
        if serving:
            return 0  # it has started no container yet
        raise NotFoundError(
            f"no app or deployment is named {name!r}. Fix: lifecycle-magic app list"
        )
    for last in {one.cls: one for one in ended}.values():
        print(plain(f"--- {last.cls} ({last.container}) has exited: {last.why}"))
        print(last_lines(plain(last.tail), lines))
    return 0


def _stop(given: argparse.Namespace) -> int:
    found = _serving(given.name)
    names = sorted({one.deployment for one in found if one.deployment})
    if not names:
        for one in found:
            raise InvalidError(
                f"the app {given.name!r} belongs to {one.who}. Fix: run app.stop() or "
                "%lifecycle stop there"
            )
        raise NotFoundError(
            f"no app or deployment is named {given.name!r}. Fix: lifecycle-magic app list"
        )
    return max(stop(argparse.Namespace(name=name)) for name in names)
