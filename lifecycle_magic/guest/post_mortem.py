"""The frames of the last exception in this container, kept for a debugger.

They keep all objects alive that their variables refer to. So they are dropped when the next call
begins, with new code, and before ``exit``; those of an exception that reports a lack of memory are
not kept at all.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.guest.failures import is_internal, summarize
from lifecycle_magic.wire.exceptions import message
from lifecycle_magic.wire.frames import Frame
from lifecycle_magic.wire.pickling import dumps, loads

if TYPE_CHECKING:
    from lifecycle_magic.guest.lane import Lane
    from lifecycle_magic.guest.worker import Worker

__all__ = ["KeptFrames", "keep", "serve"]

_NEVER_KEPT = frozenset({"BdbQuit", "MemoryError", "OutOfMemoryError"})
_OUT_OF_MEMORY = ("out of memory", "RESOURCE_EXHAUSTED")  # messages of libraries for GPUs


class KeptFrames(NamedTuple):
    """An exception with its traceback. ``id`` names it to the kernel."""

    id: str
    error: BaseException


def keep(worker: Worker, error: BaseException) -> str:
    """Keep the frames of an exception of a method. Return their id, or an empty string."""
    names = {one.__name__ for one in type(error).__mro__}
    text = message(error)
    if names & _NEVER_KEPT or any(one in text for one in _OUT_OF_MEMORY) or not _has_frames(error):
        return ""
    id = os.urandom(8).hex()
    worker.kept_frames = KeptFrames(id, error)
    return id


def _has_frames(error: BaseException) -> bool:
    """Return whether the user's code raised, or passed on, the exception."""
    trace = error.__traceback__
    while trace is not None:
        if not is_internal(trace.tb_frame.f_code.co_filename):
            return True
        trace = trace.tb_next
    return False


def serve(lane: Lane, worker: Worker, frame: Frame) -> None:
    """Answer a DEBUG frame: run the debugger on the frames that it names."""
    call, id = loads(frame.payload)
    lane.has_reader = True
    lane.start_call(call)
    try:
        lane.target.begin(call)
        kept = worker.kept_frames
        if kept is None or kept.id != id:
            raise InvalidError(
                "the frames of this exception are not kept any more: another call ran in the "
                "container, or its code changed. Fix: repeat the call that failed"
            )
        _debug(kept.error)
        lane.target.end()
    except BaseException as error:
        lane.end_interruptible()
        lane.target.mark_answered(call)
        lane.settle()
        lane.send_failure(error)
        return
    lane.flush()
    lane.settle()
    lane.has_reader = False
    lane.target.mark_answered(call)
    lane.send_result(*dumps(None))


def _debug(error: BaseException) -> None:
    """Run pdb on the frames of an exception. Its prompts leave out the frames of this package."""
    import pdb  # noqa: T100

    print(summarize(error))
    debugger = pdb.Pdb(nosigint=True)
    debugger.reset()
    if sys.version_info >= (3, 13):  # it shows the causes too
        debugger.interaction(None, error)
    else:
        debugger.interaction(None, error.__traceback__)
