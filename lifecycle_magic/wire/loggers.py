"""Loggers with the settings made in the notebook, so that a method logs what a cell would log.

A logger travels by its name. On arrival, the logger and its parents get their levels and the
handlers that write to stdout or stderr. If code in the container changes these settings, they stay
as that code set them.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

__all__ = ["Configured", "content", "content_of", "make_logger", "set_up", "settings_of"]

Handlers = list[tuple[str, int, logging.Formatter | None]]
Settings = list[tuple[str, int, bool, Handlers]]

_levels = {"root": logging.WARNING}  # the levels that arrived, by the logger's name
_arrived: dict[str, Any] = {}  # propagation and handlers as they arrived last
_installed_handlers: dict[str, list[logging.Handler]] = {}  # the handlers created from these


def content_of(logger: logging.Logger) -> list[Any]:
    """Return the content of a logger and its parents for a digest."""
    return [_content(one) for one in _with_parents(logger)]


def settings_of(logger: logging.Logger) -> Settings:
    """Return what `make_logger` needs to set up a logger and its parents."""
    return [(one.name, one.level, one.propagate, _handlers(one)) for one in _with_parents(logger)]


class Configured:
    """The root logger and all loggers that are set up in this process.

    On arrival it sets them up there.
    """

    def __init__(self) -> None:
        self._settings: Settings = [
            (one.name, one.level, one.propagate, _handlers(one)) for one in _configured()
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        return set_up, (self._settings,)


def content() -> list[Any]:
    """Return the content, for a digest, of the root logger and of loggers named like no module.

    Libraries set up their own loggers when they are imported, at any time.
    """
    return [
        _content(one)
        for one in _configured()
        if one is logging.root or one.name.partition(".")[0] not in sys.modules
    ]


def _configured() -> list[logging.Logger]:
    """Return the root logger and those that have a level or write to a stream, sorted by name."""
    found = [
        one
        for one in list(logging.root.manager.loggerDict.values())  # others import at any time
        if isinstance(one, logging.Logger)
        and one.name.partition(".")[0] not in _KERNEL_LOGGERS
        and (one.level or _streams(one))
    ]
    return [logging.root, *sorted(found, key=lambda one: one.name)]


_KERNEL_LOGGERS = frozenset(
    {"IPKernelApp", "IPython", "asyncio", "lifecycle_magic", "parso", "tornado", "traitlets"}
)


def set_up(settings: Settings) -> None:
    """Set up loggers where definitions arrive."""
    # Imported only where definitions arrive: the kernel reads levels without cloudpickle.
    from lifecycle_magic.wire import definition_load

    if definition_load.is_declaring():
        for one in settings:
            _set_up(*one)


def make_logger(name: str, settings: Settings) -> logging.Logger:
    """Return the logger of this name, and set it up where definitions arrive."""
    set_up(settings)
    return logging.getLogger(name)


def _set_up(name: str, level: int, propagate: bool, handlers: Handlers) -> None:
    logger = logging.getLogger(name)
    if logger.level == _levels.get(name, logging.NOTSET):
        logger.setLevel(level)
        _levels[name] = level
    settings = propagate, _described(handlers)
    if _arrived.get(name, (True, [])) == settings:
        return
    _arrived[name] = settings
    if logger.handlers == _installed_handlers.get(name, []) or _is_automatic(logger):
        logger.propagate = propagate
        logger.handlers[:] = _installed_handlers[name] = [_make_handler(*one) for one in handlers]


def _make_handler(
    stream: str, threshold: int, formatter: logging.Formatter | None
) -> logging.Handler:
    handler = logging.StreamHandler(getattr(sys, stream))
    handler.setLevel(threshold)
    handler.setFormatter(formatter)
    return handler


def _described(handlers: Handlers) -> list[Any]:
    return [(stream, level, *_formats(formatter)) for stream, level, formatter in handlers]


def _formats(formatter: logging.Formatter | None) -> tuple[Any, ...]:
    return getattr(formatter, "_fmt", None), getattr(formatter, "datefmt", None)


def _is_automatic(logger: logging.Logger) -> bool:
    """Return whether the logger has the handler that `logging.info` and its siblings install."""
    return logger is logging.root and [
        (type(one), one.level, *_formats(one.formatter)) for one in logger.handlers
    ] == [(logging.StreamHandler, logging.NOTSET, logging.BASIC_FORMAT, None)]


def _with_parents(logger: logging.Logger) -> list[logging.Logger]:
    found: list[logging.Logger] = []
    one: logging.Logger | None = logger
    while one is not None:
        found.append(one)
        one = one.parent if one.propagate else None
    return found


def _handlers(logger: logging.Logger) -> Handlers:
    return [
        (stream, one.level, one.formatter)
        for one in _streams(logger)
        if (stream := _stream(one.stream)) is not None
    ]


def _content(logger: logging.Logger) -> Any:
    handlers = [(one.level, *_formats(one.formatter)) for one in _streams(logger)]
    return logger.name, logger.level, logger.propagate, handlers


def _streams(logger: logging.Logger) -> list[Any]:
    """Return the logger's stream handlers, also one whose stream was stdout before stdout was
    replaced.
    """
    return [one for one in logger.handlers if type(one) is logging.StreamHandler]


def _stream(stream: object) -> str | None:
    for name in ("stdout", "stderr"):
        if stream in (getattr(sys, name), getattr(sys, f"__{name}__")):
            return name
    return None
