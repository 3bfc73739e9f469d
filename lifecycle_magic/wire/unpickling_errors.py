"""Explanations for exceptions that a value's own code raises while the value is unpickled."""

from __future__ import annotations

from typing import Any

from lifecycle_magic.wire.exceptions import Links, add_note

__all__ = ["advice", "explain", "first_strings"]

MODULES = "/run/lifecycle/modules/"  # the folder of the modules that travel with a class
PLAIN_DATA = "pass plain data, or create the value in the method or in enter"
IN_ENTER = "make it in an @enter method and keep it on self"


def explain(error: BaseException, what: str, fix: str) -> None:
    """Add a note to ``error``: ``what`` could not be rebuilt in the container, and the fix.

    An ImportError and an interrupt say enough by themselves, and the kernel explains a data file
    that a module did not find next to itself.
    """
    lacks_file = isinstance(error, FileNotFoundError) and str(error.filename).startswith(MODULES)
    if isinstance(error, Exception) and not isinstance(error, ImportError) and not lacks_file:
        add_note(error, f"{what} can't be rebuilt in the container. Fix: {advice(error, fix)}")


def advice(error: BaseException, fix: str) -> str:
    """Return ``fix``, or what to change in a ``__getattr__`` that calls itself without end.

    pickle asks an object for ``__setstate__`` before the object has any attribute.
    """
    name = _raised_in(error)
    if not isinstance(error, RecursionError) or not name.endswith("__getattr__"):
        return fix
    return (
        f"let {name} raise AttributeError for names that begin with '_': it is asked for "
        "'__setstate__' before the object has its attributes"
    )


def _raised_in(error: BaseException) -> str:
    """Return the name of the function that raised ``error``."""
    name, trace = "", Links.of(error).traceback
    while trace is not None:
        code = trace.tb_frame.f_code
        name = getattr(code, "co_qualname", code.co_name)  # co_qualname came with Python 3.11
        trace = trace.tb_next
    return name


def first_strings(data: bytes, memo: dict[int, Any], count: int) -> list[str]:
    """Return the first ``count`` strings of a pickle without unpickling it.

    ``memo`` is the memo of an unpickler that stands at the start of ``data``.
    """
    import pickletools  # rarely needed

    found: list[str] = []
    for opcode, argument, _ in pickletools.genops(data):
        value: Any = argument
        if "GET" in opcode.name and isinstance(argument, int):
            value = memo.get(argument)
        if isinstance(value, str):
            found.append(value)
        if len(found) == count:
            break
    return found
