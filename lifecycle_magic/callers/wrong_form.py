"""Errors of a call in a form that the method does not have, wherever the caller is."""

from __future__ import annotations

from lifecycle_magic.exception import InvalidError

__all__ = ["answers_http", "yields_nothing", "yields_values"]


def answers_http(where: str, form: str) -> InvalidError:
    """Return the error for a call of a web method in a form such as ``remote``."""
    return InvalidError(
        f"{where} answers HTTP, not .{form}(). Fix: get its address with "
        f"{where}.get_web_url(), or call {where}.local(...)"
    )


def yields_values(where: str, form: str, instead: str = "remote_gen") -> InvalidError:
    """Return the error for a generator that was called for its value."""
    return InvalidError(
        f"{where} yields its values, so .{form}() has nothing to return. "
        f"Fix: iterate over {where}.{instead}(...)"
    )


def yields_nothing(where: str, form: str = "remote_gen") -> InvalidError:
    """Return the error for a method that is no generator and was called for its items."""
    return InvalidError(
        f"{where} does not yield, so there is nothing to iterate over with .{form}(). "
        f"Fix: call {where}.{form.replace('remote_gen', 'remote')}(...)"
    )
