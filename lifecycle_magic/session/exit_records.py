"""The history's entries for a session's containers that have exited."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Literal, Protocol

from lifecycle_magic.container.record import discard
from lifecycle_magic.lifecycle.history import History, HistoryEntry

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container

__all__ = ["record"]


class Notify(Protocol):
    """The function that shows a line: `lifecycle_magic.session.session.Session.notice`."""

    def __call__(
        self,
        cls: str | None,
        text: str,
        level: Literal["info", "warning"] = "info",
        service: str = "",
        /,
    ) -> None: ...


def record(
    container: Container, engine: str, session: str, history: History, notify: Notify
) -> None:
    """Add an exited container to the history, report what went wrong, and remove its run folder."""
    run_dir = container.plan.launch.run_dir
    if container.is_spare:  # it held nothing of the user's
        discard(run_dir)
        return
    entry = _entry(container, engine, session)
    try:
        history.add(entry)
    except OSError as error:  # for example a full disk
        text = f"{entry.cls}: {entry.why}. This is not in the history: {error}"
        notify(entry.cls, text, "info", entry.service)
    discard(run_dir)
    for hook in entry.hooks:
        if hook.error:
            what = f"exit hook {hook.hook} of {entry.cls} raised:\n{hook.error}"
            notify(entry.cls, what, "warning", entry.service)
    report = container.cause.report
    if report is not None and report.killed:
        notify(entry.cls, f"{entry.cls}: {entry.why}", "warning", entry.service)


def _entry(container: Container, engine: str, session: str) -> HistoryEntry:
    """Return the history's entry: from the supervisor's report, otherwise from what is known."""
    plan, report = container.plan, container.cause.report
    if report is not None:
        report = dataclasses.replace(report, container=container.name)
        return HistoryEntry.from_report(
            session, plan.cls, engine, report, plan.service, plan.build_hook, plan.memory
        )
    return HistoryEntry(
        session=session,
        container=container.name,
        cls=plan.cls,
        engine=engine,
        state=container.state.value,
        why=container.explain_exit(),
        began=container.began,
        ended=time.time(),
        service=plan.service,
        build_hook=plan.build_hook,
    )
