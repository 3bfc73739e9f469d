"""The end of an interpreter, for a process that ends with `os._exit`.

The order is that of Python itself: non-daemon threads (and what `concurrent.futures` has to end),
then `atexit`, which is where `multiprocessing` ends its children. Source: Py_FinalizeEx,
https://docs.python.org/3/c-api/init.html
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable

Report = Callable[[list[str]], object]


def run(report: Report = lambda names: None) -> None:
    """Run all that Python runs at its end, whatever a part of it raises.

    ``report`` gets the names of the threads, and then of the processes, that the end waits for.
    """
    threads = [f"thread {thread.name}" for thread in _threads()]
    if threads:
        report(threads)
    _safely(threading._shutdown)  # type: ignore[attr-defined]
    processes = [f"process {name}" for name in _processes()]
    if threads or processes:
        report(processes)
    _safely(atexit._run_exitfuncs)
    for stream in (sys.stdout, sys.stderr):
        _safely(stream.flush)


def _threads() -> list[threading.Thread]:
    """Return the threads that Python joins at its end."""
    main = threading.main_thread()
    return [one for one in threading.enumerate() if one is not main and not one.daemon]


def _processes() -> list[str]:
    """Return the names of the processes that `multiprocessing` joins at its end."""
    process = sys.modules.get("multiprocessing.process")
    if process is None:
        return []
    return [child.name for child in process.active_children() if not child.daemon]


def _safely(function: Callable[[], object]) -> None:
    try:
        function()
    except BaseException:
        import traceback

        traceback.print_exc()
