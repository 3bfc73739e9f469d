"""Running a cell's source in IPython, and displaying its errors as those of a plain cell."""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any

from lifecycle_magic.callers.internal_frames import strip_all
from lifecycle_magic.callers.tracebacks import REMOTE
from lifecycle_magic.exception import Error, InvalidError
from lifecycle_magic.ui.notebook.cell_classes import declaring
from lifecycle_magic.wire.exceptions import Links, attributes

__all__ = ["CellSyntaxError", "execute", "show_without_plumbing"]


def execute(shell: Any, text: str, declare: Callable[..., Any]) -> None:
    """Run a cell's source in the notebook's namespace, under a file name known to tracebacks.

    ``declare`` gets each class at the top level right after its statement. The value of a last line
    that is an expression is displayed as usual. Raises what the source raises. IPython's `run_cell`
    is not used: it would display an error itself, and the cell would seem to have succeeded.
    """
    with declaring(shell, declare):
        for code in _compile_cell(shell, text):
            exec(code, shell.user_global_ns, shell.user_ns)


def _compile_cell(shell: Any, text: str) -> list[CodeType]:
    """Compile the cell's statements, and separately its last line if that is an expression."""
    source = text
    try:
        source = "\n" * _lines_above(shell, text) + shell.transform_cell(text)
        name = shell.compile.cache(source, _number(shell), raw_code=text)
        tree = shell.transform_ast(shell.compile.ast_parse(source, filename=name))
        is_expression = tree.body and isinstance(tree.body[-1], ast.Expr)
        last: list[Any] = [tree.body.pop()] if is_expression else []
        codes = [shell.compile(tree, name, "exec")]
        return [*codes, shell.compile(ast.Interactive(last), name, "single")] if last else codes
    except SyntaxError as error:
        if _awaits_at_the_top(source):
            raise InvalidError(
                f"%%lifecycle_cls: {_line(source, error)!r} awaits outside of a function. "
                "Fix: move the await to a cell without %%lifecycle_cls"
            ) from None
        raise CellSyntaxError.of(shell, error) from None


def _awaits_at_the_top(source: str) -> bool:
    """Return whether ``await`` outside of functions is the only syntax error."""
    try:
        compile(source, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _line(source: str, error: SyntaxError) -> str:
    """Return the source line of a syntax error."""
    return source.splitlines()[(error.lineno or 1) - 1].strip()


def _lines_above(shell: Any, text: str) -> int:
    """Return the number of magic lines and empty lines above the source that IPython passes on.

    With them, tracebacks have the line numbers that the editor shows.
    """
    raw = shell.history_manager.input_hist_raw[-1]
    lines = text.splitlines()
    empty = next((index for index, line in enumerate(lines) if line.strip()), 0)
    found = raw.rstrip().rfind(text.rstrip())
    return empty + (raw[:found].count("\n") if found > 0 else 0)


def _number(shell: Any) -> int:
    """Return the running cell's number. IPython 9 counts it up before a cell runs, 8 afterwards."""
    count: int = shell.execution_count
    inputs = shell.history_manager.input_hist_parsed
    return len(inputs) - 1 if len(inputs) - 1 in (count, count - 1) else count


class CellSyntaxError(Exception):
    """A stand-in for a `SyntaxError` of a cell's source or of code in a container.

    IPython displays a real `SyntaxError` with all its frames, most of which are internal.
    """

    @classmethod
    def of(cls, shell: Any, error: SyntaxError) -> CellSyntaxError:
        """Return a stand-in that is displayed like ``error`` in a plain cell."""
        stand_in = cls(str(error))
        shown = shell.SyntaxTB.structured_traceback(type(error), error, [])
        stand_in._render_traceback_ = lambda: shown  # type: ignore[attr-defined]
        return stand_in

    @classmethod
    def passed_on(cls, shell: Any, error: SyntaxError) -> BaseException:
        """Return a stand-in shown with the container's frames; ``error`` itself if it has none."""
        show_without_plumbing(shell, error)
        if not hasattr(error, "_render_traceback_"):
            return error
        stand_in = cls(str(error))
        stand_in._render_traceback_ = error._render_traceback_  # type: ignore[attr-defined]
        return stand_in


CellSyntaxError.__name__ = "SyntaxError"


def show_without_plumbing(shell: Any, error: BaseException) -> None:
    """Make IPython display ``error`` with the user's frames only, local and remote.

    Call this where the error is caught: at that point IPython's own frames are not yet in its
    traceback. An error that is not an `Error` and has no user frame is a bug, and keeps all frames.
    """
    links = Links.of(error)
    trace = _first_of_user(shell.user_ns, links.traceback)
    if trace is not None:
        links._replace(traceback=trace).set_on(error)
    strip_all(error)
    if trace is not None:
        trace = Links.of(error).traceback
    elif not isinstance(error, (Error, KeyboardInterrupt)):
        return
    if isinstance(error, KeyboardInterrupt):  # it may interrupt the handling of any other error
        Links.of(error)._replace(suppress_context=True).set_on(error)

    def render() -> list[str]:
        return _rendered(shell, error, trace)

    attributes(error)["_render_traceback_"] = render


def _first_of_user(namespace: dict[str, Any], trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of the notebook or of a container."""
    while trace is not None:
        seen_from = trace.tb_frame.f_globals
        if seen_from is namespace or seen_from.get("__name__") == REMOTE:
            return trace
        trace = trace.tb_next
    return None


def _rendered(shell: Any, error: BaseException, trace: TracebackType | None) -> list[str]:
    shown: list[str]
    if trace is None and Links.of(error).cause is None:
        shown = shell.InteractiveTB.get_exception_only(type(error), error)
    else:
        shown = shell.InteractiveTB.structured_traceback(type(error), error, trace, tb_offset=0)
    # Python 3.11 shows notes, 3.10 does not.
    missing = [note for note in getattr(error, "__notes__", ()) if note not in "".join(shown)]
    return [*shown, *missing]
