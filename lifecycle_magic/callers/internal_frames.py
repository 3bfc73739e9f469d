"""The removal of internal frames from tracebacks: this package's own, and those in between.

The frames are removed where a call of the user ends, and once more when a traceback is shown. A bug
of this package keeps them, and ``LIFECYCLE_MAGIC_TRACEBACK=full`` keeps all.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import os
import sys
import types
from collections import deque
from concurrent.futures import Future
from typing import Any

from lifecycle_magic.callers.tracebacks import REMOTE
from lifecycle_magic.exception import Error, InputCancelled
from lifecycle_magic.wire import descriptors
from lifecycle_magic.wire.exceptions import Links, add_note, attributes, members

__all__ = [
    "PACKAGE",
    "hidden",
    "hide_in_ipython",
    "hide_in_scripts",
    "hide_plumbing",
    "strip",
    "strip_all",
]

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_RAISE = dis.opmap["RAISE_VARARGS"]
_RAISES_OUTCOME = vars(Future)["_Future__get_result"].__code__
_STANDARD = os.path.dirname(os.__file__) + os.sep
_DRIVERS = (
    *(_STANDARD + name for name in ("asyncio", "concurrent")),
    *(_STANDARD + name for name in ("threading.py", "queue.py", "contextlib.py")),
    "<string>",  # the methods that dataclasses generates
)


def strip_all(error: BaseException) -> None:
    """Strip ``error``, and all exceptions that are shown with it, in place."""
    if isinstance(error, OSError) and not isinstance(error, Error):
        _name_shortage(error)
    if os.environ.get("LIFECYCLE_MAGIC_TRACEBACK") == "full":
        return
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            links = Links.of(one)
            if issubclass(type(one), KeyboardInterrupt) and type(links.context) is InputCancelled:
                # raised by this package's handling of the interrupt
                links = links._replace(context=None)
                links.set_on(one)
            todo += [links.cause, links.context, *(members(one) or ("", []))[1]]
            if not _is_bug(one):
                strip(one)
                _stripped.append(id(one))


def strip(error: BaseException) -> BaseException:
    """Remove this package's frames from the traceback of ``error``, in place."""
    links = Links.of(error)
    entries: list[tuple[types.TracebackType, bool]] = []
    inside = False
    trace = links.traceback
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        inside = filename.startswith(PACKAGE) or (inside and filename.startswith(_DRIVERS))
        entries.append((trace, inside))
        trace = trace.tb_next
    following = None
    for trace, inside in reversed(entries):  # a removed entry also leads on to the next one
        trace.tb_next = following
        following = following if inside else trace
    links._replace(traceback=following).set_on(error)
    return error


class _Hidden:
    """A context manager that removes this package's frames from what its block raises.

    From Python 3.11 on, it also removes the frame of the function that uses it: an exception that
    is raised again as it leaves the block gets no second entry in its traceback. Therefore the
    ``with`` must enclose the whole function.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            strip_all(error)


def _name_shortage(error: OSError) -> None:
    """Add a note to one of this process's own errors that no file descriptor is left."""
    trace = Links.of(error).traceback
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == REMOTE:
            return  # of a container
        trace = trace.tb_next
    if explained := descriptors.explain(error):
        with contextlib.suppress(AttributeError, TypeError):
            if explained not in attributes(error).get("__notes__", ()):
                add_note(error, explained)


hidden = _Hidden()


_stripped: deque[int] = deque(maxlen=16)
"""The ids of the exceptions that were stripped last."""


def _is_bug(error: BaseException) -> bool:
    """Return whether this package's code failed, other than by a ``raise`` of its own."""
    if sys.version_info < (3, 11) and id(error) in _stripped:
        return False  # raised again, which brings back the entry of the frame that does so
    trace, last = Links.of(error).traceback, None
    while trace is not None:
        frame = trace.tb_frame
        ours = frame.f_code.co_filename.startswith(PACKAGE)
        if frame.f_code is _RAISES_OUTCOME:
            last = None  # what follows shows where it was raised before it got into the future
        elif ours or not frame.f_code.co_filename.startswith(_STANDARD):
            last = trace if ours and frame.f_globals.get("__name__") != REMOTE else None
        trace = trace.tb_next
    if last is None or isinstance(error, (Error, KeyboardInterrupt, SyntaxError)):
        return False
    # A cancelled task gets this one wherever it waits; one that `wait_for` cancels, for example.
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(error, asyncio.CancelledError):
        return False
    code, at = last.tb_frame.f_code.co_code, last.tb_lasti
    return isinstance(error, AssertionError) or not 0 <= at < len(code) or code[at] != _RAISE


def hide_plumbing() -> None:
    """Hide this package's frames in shown tracebacks, in IPython or in the interpreter."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        hide_in_ipython(shell)
    else:
        hide_in_scripts()


def hide_in_ipython(shell: Any) -> None:
    """Hide this package's frames in the shell's tracebacks, in all of its modes."""
    shown = shell.InteractiveTB
    if getattr(shown, "hides_plumbing", False):
        return
    original = shown.structured_traceback

    @functools.wraps(original)
    def structured_traceback(
        etype: Any, evalue: Any, etb: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        if isinstance(evalue, BaseException) and etb is Links.of(evalue).traceback:
            strip_all(evalue)
            etb = Links.of(evalue).traceback
        lines = original(etype, evalue, etb, *args, **kwargs)
        if sys.version_info < (3, 11) and isinstance(evalue, BaseException):
            notes = attributes(evalue).get("__notes__", ())  # Python 3.10 does not show them
            lines = [*lines, *(one for one in notes if one not in "".join(lines))]
        return lines

    shown.structured_traceback = structured_traceback
    shown.hides_plumbing = True


def hide_in_scripts() -> None:
    """Hide this package's frames in the interpreter's tracebacks."""
    previous = sys.excepthook
    if getattr(previous, "hides_plumbing", False):
        return

    def excepthook(etype: Any, value: Any, trace: Any) -> None:
        strip_all(value)
        previous(etype, value, Links.of(value).traceback)

    excepthook.hides_plumbing = True  # type: ignore[attr-defined]
    sys.excepthook = excepthook
