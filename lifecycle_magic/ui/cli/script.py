"""Scripts with an entry point: ``lifecycle-magic run script.py[::entrypoint] [--option value]``.

The script runs as ``__main__`` (`lifecycle_magic.ui.cli.main_module`), so that its classes are
pickled by value and containers need no copy of the file.
"""

from __future__ import annotations

import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lifecycle_magic.exception import Error, InvalidError

__all__ = ["call", "entrypoint", "report"]


def entrypoint(module: types.ModuleType, name: str | None) -> Callable[..., Any]:
    """Return the entry point called ``name``, or the only one if ``name`` is None.

    An entry point is a function with ``@app.local_entrypoint()``. Raises `InvalidError` that lists
    the entry points of the script.
    """
    from lifecycle_magic.app import App

    found: dict[str, Callable[..., Any]] = {}
    for value in vars(module).values():
        if isinstance(value, App):
            found.update(value.entrypoints)
    script = Path(module.__file__ or "").name
    if name is not None:
        if name not in found:
            there = f"it has {', '.join(found)}" if found else "it has none"
            raise InvalidError(f"{script} has no entry point {name!r}: {there}")
        return found[name]
    if not found:
        raise InvalidError(
            f"{script} has no entry point. "
            "Fix: put @app.local_entrypoint() above the function to run"
        )
    if len(found) > 1:
        raise InvalidError(
            f"{script} has several entry points. Fix: name one of "
            + ", ".join(f"{script}::{one}" for one in found)
        )
    return next(iter(found.values()))


def call(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Call the entry point, sync or async. Raises what the entry point raises."""
    from lifecycle_magic.app import run_entrypoint

    run_entrypoint(function, arguments)


def report(error: BaseException, script: Path) -> str:
    """Return the traceback of ``error`` with the script's and the remote frames only."""
    from lifecycle_magic.callers.internal_frames import strip_all
    from lifecycle_magic.wire.exceptions import Links

    strip_all(error)
    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        _begin_at(chain, str(script.absolute()))
        links = Links.of(chain)
        chain = links.cause or links.context
    trace = Links.of(error).traceback
    if isinstance(error, Error) and trace is None:
        return f"lifecycle-magic: {error}\n"  # no line of the script raised it
    return "".join(traceback.format_exception(type(error), error, trace))


def _begin_at(error: BaseException, filename: str) -> None:
    """Drop the frames above the script's first frame: importlib's, or the event loop's."""
    from lifecycle_magic.wire.exceptions import Links

    links = Links.of(error)
    trace = links.traceback
    while trace is not None and trace.tb_frame.f_code.co_filename != filename:
        trace = trace.tb_next
    if trace is not None:
        links._replace(traceback=trace).set_on(error)
