"""Signals that end a process: their names, and how the first process of a container receives them.

The supervisor blocks all of them and takes them one by one on a thread. A handler would not work
for signals that a faulty instruction also raises: the instruction would run again, for ever. A
blocked signal of that kind ends the process if the processor raised it, and waits if a process sent
it. For process 1, blocking also keeps signals that arrive before anything is ready to take them.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

_HARMLESS = {  # signal(7): the default action is to ignore, to stop or to continue
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGURG,
    signal.SIGWINCH,
}

ENDING = frozenset(signal.valid_signals() - _HARMLESS - {signal.SIGKILL, signal.SIGPIPE})
"""Every signal whose default action ends a process, except SIGKILL, and SIGPIPE, which is
ignored.
"""


def name(number: int) -> str:
    """Return the name of a signal, such as ``SIGTERM`` or ``SIGRTMIN+3``."""
    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    try:
        return signal.Signals(number).name
    except ValueError:
        first = int(signal.SIGRTMIN)
        if first < number < signal.SIGRTMAX:
            return f"SIGRTMIN+{number - first}"
        return f"signal {number}"


def number(name: str) -> int | None:
    """Return the number of the signal with this name; None if there is no such name."""
    base, plus, offset = name.partition("+")
    if base.startswith("signal ") and base[7:].isdigit():
        return int(base[7:])
    try:
        return int(signal.Signals[base]) + (int(offset) if plus else 0)
    except (KeyError, ValueError):
        return None


Mask = set[int | signal.Signals]


def block() -> Mask:
    """Block `ENDING`, and return the signals that were blocked before."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def unblock(before: Mask) -> None:
    """Block no signals other than ``before``."""
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def watch(on_signal: Callable[[str], object]) -> None:
    """Call ``on_signal`` on a thread with the name of each signal of `ENDING` that is sent."""

    def wait() -> None:
        while True:
            on_signal(name(signal.sigwait(ENDING)))

    try:
        threading.Thread(target=wait, name="signals", daemon=True).start()
    except RuntimeError:  # a limit on processes: use handlers instead
        for number in ENDING:
            signal.signal(number, lambda number, _: on_signal(name(number)))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
