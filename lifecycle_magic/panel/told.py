"""How containers ended, in words: one line each, and one for each exit hook."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lifecycle_magic.history import Entry
from lifecycle_magic.panel.text import plain, seconds

__all__ = ["entry", "history"]


def entry(one: Entry) -> str:
    """One container: when, which, how it ended; then its exit hooks, with what they raised."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.ended))
    lived = seconds(max(0.0, one.ended - one.began)) if one.began else "an unknown time"
    lines = [f"{when}  {one.cls}  {one.state} after {lived}: {plain(one.why)}  [{one.container}]"]
    for hook in one.hooks:
        how = "raised" if hook.error else "ok"
        lines.append(f"    {hook.hook}()  {how} in {seconds(hook.seconds)}")
        if hook.error:
            lines += [f"        {line}" for line in plain(hook.error).rstrip().splitlines()]
    if one.state == "failed" and one.tail.strip():
        lines.append("    its last lines:")
        lines += [f"        {line}" for line in plain(one.tail).rstrip().splitlines()[-10:]]
    return "\n".join(lines)


def history(entries: Sequence[Entry], last: int) -> str:
    """The last ``last`` entries, the newest at the end."""
    if not entries:
        return "no container has ended yet"
    return "\n".join(entry(one) for one in (entries[-last:] if last > 0 else ()))
