"""Children that `multiprocessing` starts without a fork: they get the notebook's names too.

``spawn`` and ``forkserver``, Python's default from 3.14 on, start a fresh Python that imports the
script again as ``__main__``. A notebook is no script, so such a child would not find the functions
of its cells. Here it loads the definitions that the container has loaded, as a child of a script
does: with values as declared, not as hooks and methods have changed them since.
"""

from __future__ import annotations

import pickle
import sys
import types
from typing import Any, NamedTuple

from lifecycle_magic.guest import session_address, user_code

__all__ = ["add_definitions", "load_definitions"]

_KEY = "lifecycle_definitions"
_MODULE = "lifecycle_magic.guest.spawned_main"


class Definitions(NamedTuple):
    """The definitions that a child loads, and the way of its handles' calls to the session."""

    declared: bytes
    session: Any
    run: str


def add_definitions(spawn: types.ModuleType) -> None:
    """Change `multiprocessing.spawn`, so that children get the definitions with what it passes
    them.
    """
    inner = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = inner(name)
        if (code := user_code.current) is not None:
            # As bytes: the child reads them before it can import this package.
            data[_KEY] = pickle.dumps((code.declared, *session_address.session()))
            data["init_main_from_name"] = _MODULE
        return data

    spawn.get_preparation_data = get_preparation_data  # type: ignore[attr-defined]


def load_definitions() -> dict[str, Any]:
    """Load the definitions in a child, and return its ``__main__``. Called by `spawned_main`."""
    from lifecycle_magic.decorators import travel
    from lifecycle_magic.guest import handles

    found = _received()
    travel.make_handles_by(handles)
    session_address.set_session(found.session, found.run)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    user_code.UserCode().load(found.declared)
    return vars(main)


def _received() -> Definitions:
    """Return the definitions, which only `multiprocessing.spawn.prepare` has in its frame."""
    frame = sys._getframe()
    while frame is not None:
        data = frame.f_locals.get("data")
        if frame.f_code.co_name == "prepare" and isinstance(data, dict) and _KEY in data:
            return Definitions(*pickle.loads(data[_KEY]))
        frame = frame.f_back  # type: ignore[assignment]
    raise RuntimeError("not started by multiprocessing")
