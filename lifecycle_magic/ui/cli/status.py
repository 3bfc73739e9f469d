"""``lifecycle-magic ps``, ``logs``, ``history`` and others: what runs and what ran."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.cli.as_json import print_json
from lifecycle_magic.ui.command_table import LOG_LINES

if TYPE_CHECKING:
    from lifecycle_magic.session.session import Session

__all__ = ["apps", "diff", "history", "logs", "prune", "ps", "why"]


def _ps_alone(given: argparse.Namespace) -> int:
    if given.images:
        from lifecycle_magic.ui import prune as pruning

        with _session() as current:
            if given.json:
                print_json(pruning.kept(current))
            else:
                print(pruning.listing(current).text())
        return 0
    from lifecycle_magic.engines.choose import choose
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.ui.panel import snapshot

    rows = snapshot.of_root(state_root(), lambda name: choose(name)[0])
    if given.json:
        print_json(rows)
    else:
        print(snapshot.table(rows, below=snapshot.failures(rows)).text())
    return 0


def logs(given: argparse.Namespace) -> int:
    """Print the output of a class or container, or of a build."""
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.lifecycle.history import History
    from lifecycle_magic.ui.panel import snapshot
    from lifecycle_magic.ui.panel.text import last_lines, plain

    if given.build:
        return _build_log(given.name, given.n)
    root, lines = state_root(), LOG_LINES if given.n is None else given.n

    def running() -> list[snapshot.RunFolder]:
        found = snapshot.run_folders(root)
        return [one for one in found if given.name in (one.cls, one.container)]

    folders = running()
    if folders and given.follow:
        from lifecycle_magic.ui.cli.followed_logs import follow

        with contextlib.suppress(KeyboardInterrupt):  # the usual end
            follow(lambda: (bool(found := running()), found), lines)
        return 0
    if folders:
        for folder in folders:
            if len(folders) > 1:
                print(f"--- {folder.container}")
            print(plain(folder.log(lines)), end="")
        return 0
    ended = [one for one in History(root).entries() if given.name in (one.cls, one.container)]
    if not ended:
        raise InvalidError(
            f"no class or container is named {given.name!r}. Fix: lifecycle-magic ps lists them"
        )
    end = plain(f"{ended[-1].container} has exited ({ended[-1].why})")
    print(f"--- {end}; its last output:", file=sys.stderr)
    print(last_lines(plain(ended[-1].tail), lines))
    return 0


def why(given: argparse.Namespace) -> int:
    """Print what the last deployment of a class changed, and why."""
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.ui import edits

    print(edits.why_of_records(state_root(), given.name))
    return 0


def diff(given: argparse.Namespace) -> int:
    """Print how a running class differs from its cell in a saved notebook."""
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.ui import edits

    print(edits.diff_of_records(state_root(), given.name, given.notebook))
    return 0


def _build_log(name: str, lines: int | None) -> int:
    from lifecycle_magic.building import build_log
    from lifecycle_magic.ui.panel.text import last_lines, plain

    path = build_log.find(name)
    if path is None:
        raise InvalidError(f"no image of a class {name!r} was built yet. Fix: run its cell")
    text = plain(build_log.read(path))
    print(text if lines is None else last_lines(text, lines), end="")
    return 0


def apps(given: argparse.Namespace) -> int:
    """List what can be called by name."""
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.ui import reachable

    if given.json:
        print_json(reachable.records(state_root()))
    else:
        print(reachable.listing(state_root()).text())
    return 0


def ps(given: argparse.Namespace) -> int:
    """List running containers, with deployments, or kept images and volumes."""
    from lifecycle_magic.host.paths import state_root
    from lifecycle_magic.ui import reachable

    code = _ps_alone(given)
    for line in () if given.images or given.json else reachable.deployments(state_root()):
        print(line)
    return code


def history(given: argparse.Namespace) -> int:
    """Print how containers ended."""
    from lifecycle_magic.ui.panel import history_text

    with _session() as current:
        current.sweep_again()
        entries = current.history.entries()
        if given.json:
            print_json(entries[-given.n :] if given.n > 0 else ())
        else:
            print(history_text.history(entries, given.n))
    return 0


def prune(given: argparse.Namespace) -> int:
    """Remove what is not used."""
    from lifecycle_magic.ui import prune as pruning

    with _session() as current:
        current.sweep_again()
        ask = None if given.yes else input
        print(pruning.prune(current, volumes=given.volumes, ask=ask))
    return 0


@contextlib.contextmanager
def _session() -> Iterator[Session]:
    from lifecycle_magic.session import session

    try:
        yield session.current()
    finally:
        session.close("the command has ended")
