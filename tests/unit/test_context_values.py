"""A value of a context variable lasts for one call, wherever an interrupt ends the call."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import FrameType
from typing import Any

import pytest

from lifecycle_magic.threads.context import run_with

DEPTH: ContextVar[int] = ContextVar("depth", default=0)


def look() -> int:
    return DEPTH.get()


def interrupted_at(step: int) -> bool:
    """Call `run_with`, with an interrupt before its n-th traced event. Return whether it came."""
    left = step

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        if frame.f_code not in (run_with.__code__, look.__code__):
            return None
        frame.f_trace_opcodes = True
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        assert run_with(DEPTH, 3, look) == 3
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_an_interrupt_between_any_two_instructions_leaves_no_value() -> None:
    step = 1
    while interrupted_at(step):
        assert DEPTH.get() == 0
        step += 1
    assert step > 10
    assert DEPTH.get() == 0


def test_what_the_call_raises_is_passed_on() -> None:
    with pytest.raises(ZeroDivisionError):
        run_with(DEPTH, 3, lambda: 1 // 0)
    assert DEPTH.get() == 0
