"""The ends of containers as text: a line for each container and each exit hook."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lifecycle_magic.lifecycle.history import HistoryEntry
from lifecycle_magic.ui.panel.text import plain, seconds

__all__ = ["entry", "history"]


def entry(one: HistoryEntry) -> str:
    """Return one container's end: time, name and reason, then its exit hooks and their errors."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.ended))
    lived = seconds(max(0.0, one.ended - one.began)) if one.began else "an unknown time"
    cls, state, why, name = map(_line, (one.cls, one.state, one.why, one.container))
    lines = [f"{when}  {cls}  {state} after {lived}: {why}  [{name}]"]
    for hook in one.hooks:
        how = "raised" if hook.error else "ok"
        lines.append(f"    {_line(hook.hook)}()  {how} in {seconds(hook.seconds)}")
        if hook.error:
            lines += [f"        {line}" for line in plain(hook.error).rstrip().splitlines()]
    if one.state == "failed" and one.tail.strip():
        lines.append("    its last output:")
        lines += [f"        {line}" for line in plain(one.tail).rstrip().splitlines()[-10:]]
    return "\n".join(lines)


def _line(text: str) -> str:
    """Return the name of a container or class without control characters."""
    return plain(text)


def history(entries: Sequence[HistoryEntry], last: int) -> str:
    """Return the last ``last`` entries, the newest at the end."""
    if not entries:
        return "no container has ended yet"
    return "\n".join(entry(one) for one in (entries[-last:] if last > 0 else ()))
