"""Options that a class does not have, and what to write instead of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["explain_unknown"]


def explain_unknown(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of an option that is not there."""
    from lifecycle_magic.modal_api.table import find

    entry = find("options", f"{name}=")
    if entry is not None and entry.verdict == "refused":
        return f"{name} {entry.note}"
    if entry is not None and entry.verdict == "renamed":
        return f"{name} is an old spelling, not taken here: write {entry.note}"
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
    return f"no option {name}: {hint}"
