"""Options that Modal has, or had, and what to write instead of them here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["explain_unknown", "is_of_modal"]

# Earlier names of the same options: https://modal.com/docs/guide/modal-1-0-migration
_RENAMED = {
    "keep_warm": "min_containers",
    "concurrency_limit": "max_containers",
    "container_idle_timeout": "scaledown_window",
    "max_inputs": "single_use_containers=True, or @concurrent(max_inputs=...) above the class",
    "mounts": "image=Image.add_local_dir(...)",
    "mount": "image=Image.add_local_dir(...)",
    "secret": "secrets=[...]",
    "volume": "volumes={path: volume}",
}
_ON_THE_CLASS = {
    "allow_concurrent_inputs": "@concurrent(max_inputs=...) above the class",
    "batch_max_size": "@batched(max_batch_size=..., wait_ms=...) on the method",
    "is_generator": "@method(is_generator=...) on the method, or @app.function(is_generator=...)",
}
_INSTEAD = {
    "network_file_systems": "network_file_systems has a successor: use volumes={path: volume}",
    "proxy": "proxy= needs Modal's cloud: set HTTPS_PROXY with env={...} instead",
    "schedule": "schedule= needs a service that always runs. "
    "Fix: remove it, and run the script from your scheduler (cron, systemd): "
    "lifecycle-magic run script.py",
}


def is_of_modal(name: str) -> bool:
    """Return whether Modal has an option that is refused here; its value None means "not given"."""
    return name in _INSTEAD


def explain_unknown(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of an option that is not there."""
    known = list(known)
    if name in _RENAMED:
        return f"{name} has a new name: use {_RENAMED[name]}"
    if name in _ON_THE_CLASS:
        return f"{name} is no option of the container: use {_ON_THE_CLASS[name]}"
    if name in _INSTEAD:
        return _INSTEAD[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
    return f"no option {name}: {hint}"
