"""Remote exceptions, rebuilt in the kernel, with fixes for common ones."""

from __future__ import annotations

from lifecycle_magic.callers import remote_exceptions
from lifecycle_magic.callers.remote_exceptions import blocking_call_error
from lifecycle_magic.wire.exceptions import add_note, copy_exception
from lifecycle_magic.wire.messages import Failure

__all__ = ["alike", "blocking_call_error", "rebuild"]

alike = copy_exception


def rebuild(failure: Failure, where: str, *, stays: bool = True) -> BaseException:
    """Return what `lifecycle_magic.callers.remote_exceptions.rebuild` returns, with notes that name
    fixes.
    """
    return remote_exceptions.rebuild(failure, where, stays=stays, explain=_explain)


def _explain(error: BaseException, where: str) -> None:
    if isinstance(error, ImportError):
        from lifecycle_magic.errors import missing_module

        if type(error) is ModuleNotFoundError and error.name:
            add_note(error, missing_module.fix_for(error.name, where.partition(".")[0]))
        elif fix := missing_module.unloadable(str(error)):
            add_note(error, fix)
    elif isinstance(error, (NameError, KeyError, AttributeError)):
        from lifecycle_magic.errors import missing_name

        if fix := missing_name.note(error, where.partition(".")[0]):
            add_note(error, fix)
    elif isinstance(error, FileNotFoundError):
        from lifecycle_magic.errors import missing_file

        for note in missing_file.notes(error):
            add_note(error, note)
