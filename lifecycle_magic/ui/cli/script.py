"""The report about a script that fails, and the file for the result of one that returns.

The script runs as ``__main__`` (`lifecycle_magic.ui.cli.main_module`), so that its classes are
pickled by value and containers need no copy of the file.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from lifecycle_magic.exception import Error, InvalidError

__all__ = ["report", "write_result"]


def write_result(path: Path, value: object) -> None:
    """Write what the script returned, a string or bytes, to a file.

    Raises `InvalidError` for another value, and if the file can't be written.
    """
    if not isinstance(value, (str, bytes)):
        raise InvalidError(
            f"--write-result needs a str or bytes, but {type(value).__name__} was returned. "
            "Fix: return json.dumps(...), for example"
        )
    try:
        path.write_bytes(value.encode() if isinstance(value, str) else value)
    except OSError as error:
        raise InvalidError(f"the result can't be written to {path}: {error.strerror}") from None


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
