"""pdb, and debuggers made of it, in a method.

A debugger traces all functions of its thread and shows all frames of its stack. Below the method
are frames of this package, and after the method the thread runs this package's code. So each prompt
of a debugger makes it skip that code, and the end of the call makes it continue, as the command
``continue`` does. Breakpoints that the user has set stay.
"""

from __future__ import annotations

import contextlib
import sys
from types import FrameType
from typing import Any

from lifecycle_magic.guest.failures import is_internal, is_package_file

__all__ = ["Debuggers", "drop_internal_frames"]

_OURS = "lifecycle_magic.*"
_MOST_FRAMES = 20  # between the prompt and the command loop of its debugger


class Debuggers:
    """The debuggers that asked for a command during one call."""

    def __init__(self) -> None:
        self._found: list[Any] = []

    def prepare(self, frame: FrameType) -> bool:
        """Prepare the debugger whose command loop asks for a line in ``frame``.

        Return whether there is one.
        """
        debugger = _debugger(frame) if "bdb" in sys.modules else None
        if debugger is None:
            return False
        if debugger not in self._found:
            self._found.append(debugger)
        with contextlib.suppress(Exception):  # another version of it, with other attributes
            debugger.skip = {*(debugger.skip or ()), _OURS}
            # Otherwise ``continue`` would take SIGINT over, and the stop button end nothing.
            debugger.nosigint = True
            drop_internal_frames(debugger)
        return True

    def end(self) -> None:
        """Let them continue. On the thread that they trace."""
        if not self._found:
            return
        trace = sys.gettrace()
        sys.settrace(None)  # first of all: they stop in the next function that is called
        for debugger in self._found:
            with contextlib.suppress(Exception):
                debugger.set_continue()
                if debugger.breaks:
                    sys.settrace(trace)
        self._found.clear()


def drop_internal_frames(debugger: Any) -> None:
    """Remove the frames below the method from the stack that ``debugger`` shows."""
    names = [frame.f_code.co_filename for frame, _ in debugger.stack]
    count = next((index for index, name in enumerate(names) if is_package_file(name)), len(names))
    while count < len(names) and is_internal(names[count]):
        count += 1
    if count <= debugger.curindex < len(names):
        debugger.stack[:count] = []
        debugger.curindex -= count


def _debugger(frame: FrameType | None) -> Any:
    """Return the debugger that runs in ``frame`` or near below, or None.

    No variables of other frames are read: that would undo what a user has assigned in the debugger.
    """
    from bdb import Bdb

    for _ in range(_MOST_FRAMES):
        if frame is None:
            return None
        if frame.f_globals.get("__name__") == "cmd" and frame.f_code.co_name == "cmdloop":
            found = frame.f_locals.get("self")
            return found if isinstance(found, Bdb) else None
        frame = frame.f_back
    return None
