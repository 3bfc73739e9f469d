"""Running a cell's text inside IPython, and showing its errors as if the cell were a plain one."""

from __future__ import annotations

import ast
from types import CodeType, TracebackType
from typing import Any

from lifecycle_magic.exception import Error
from lifecycle_magic.failure import strip

__all__ = ["CellSyntaxError", "execute", "show_without_plumbing"]

REMOTE = "?"  # the module of frames that `lifecycle_magic.failure` rebuilds


def execute(shell: Any, text: str) -> None:
    """Run a cell's text in the namespace, under a name that tracebacks find its source by.

    The value of a last line that is an expression is shown, as always. Raises what the text raises.
    Not `run_cell`: that would show an error itself, and the cell would seem to have succeeded.
    """
    for code in _compiled(shell, text):
        exec(code, shell.user_global_ns, shell.user_ns)


def _compiled(shell: Any, text: str) -> list[CodeType]:
    """The cell's statements, and its last line apart if that is an expression."""
    try:
        source = shell.transform_cell(text)
        name = shell.compile.cache(source, shell.execution_count, raw_code=text)
        tree = shell.transform_ast(shell.compile.ast_parse(source, filename=name))
        is_expression = tree.body and isinstance(tree.body[-1], ast.Expr)
        last: list[Any] = [tree.body.pop()] if is_expression else []
        codes = [shell.compile(tree, name, "exec")]
        return [*codes, shell.compile(ast.Interactive(last), name, "single")] if last else codes
    except SyntaxError as error:
        raise CellSyntaxError.of(shell, error) from None


class CellSyntaxError(Exception):
    """Stands for a `SyntaxError`: that of a cell's text, or one that a container's code raised.

    IPython shows a real one with all frames that it came through, most of which are ours.
    """

    @classmethod
    def of(cls, shell: Any, error: SyntaxError) -> CellSyntaxError:
        """One that is shown as ``error`` is shown when it is in a plain cell."""
        stand_in = cls(str(error))
        shown = shell.SyntaxTB.structured_traceback(type(error), error, [])
        stand_in._render_traceback_ = lambda: shown  # type: ignore[attr-defined]
        return stand_in

    @classmethod
    def passed_on(cls, shell: Any, error: SyntaxError) -> BaseException:
        """One that is shown with the container's frames; ``error`` itself if it has none."""
        show_without_plumbing(shell, error)
        if not hasattr(error, "_render_traceback_"):
            return error
        stand_in = cls(str(error))
        stand_in._render_traceback_ = error._render_traceback_  # type: ignore[attr-defined]
        return stand_in


CellSyntaxError.__name__ = "SyntaxError"


def show_without_plumbing(shell: Any, error: BaseException) -> None:
    """Have IPython show ``error`` with the user's own frames, local and remote, and no other.

    Call it where the error is caught: IPython's own frames above are not in its traceback yet.
    An error that is neither ours nor comes from the user's code is a bug, and keeps all its frames.
    """
    trace = _first_of_user(shell.user_ns, error.__traceback__)
    if trace is not None:
        trace = strip(error.with_traceback(trace)).__traceback__
    elif not isinstance(error, (Error, KeyboardInterrupt)):
        return
    if isinstance(error, KeyboardInterrupt):
        error.__suppress_context__ = True  # whatever it happened to come in the middle of

    def render() -> list[str]:
        return _rendered(shell, error, trace)

    try:
        error._render_traceback_ = render  # type: ignore[attr-defined]
    except AttributeError:
        pass  # a class with __slots__: then all frames are seen


def _first_of_user(namespace: dict[str, Any], trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback from the first frame of the notebook's, or of a container's, on."""
    while trace is not None:
        seen_from = trace.tb_frame.f_globals
        if seen_from is namespace or seen_from.get("__name__") == REMOTE:
            return trace
        trace = trace.tb_next
    return None


def _rendered(shell: Any, error: BaseException, trace: TracebackType | None) -> list[str]:
    shown: list[str]
    if trace is None:
        shown = shell.InteractiveTB.get_exception_only(type(error), error)
    else:
        shown = shell.InteractiveTB.structured_traceback(type(error), error, trace, tb_offset=0)
    # Python 3.11 shows notes, 3.10 does not.
    missing = [note for note in getattr(error, "__notes__", ()) if note not in "".join(shown)]
    return [*shown, *missing]
