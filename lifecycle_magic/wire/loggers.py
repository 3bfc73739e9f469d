"""Loggers with the settings made in the notebook, so that a method logs what a cell would log.

A logger travels by its name. On arrival, the logger and its parents get their levels, filters and
those handlers that can travel. If code in the container changes these settings, they stay as that
code set them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from lifecycle_magic.wire import log_parts
from lifecycle_magic.wire.log_parts import HandlerParts, LogPart, Travels, is_picklable

__all__ = [
    "Configured",
    "content",
    "content_of",
    "left_behind",
    "set_up",
]


Read = Callable[[Any], Any]


class Settings(NamedTuple):
    """The notebook's settings of one logger. ``kind`` is its class, if the notebook defines it."""

    name: str
    level: int
    propagate: bool
    disabled: bool
    filters: list[LogPart]
    handlers: list[HandlerParts]
    kind: Any = None


class LoggingSettings(NamedTuple):
    """The notebook's settings of the module `logging` itself."""

    disable: int
    levels: dict[int, str]
    captures_warnings: bool
    factory: Any
    kind: Any


_levels = {"root": logging.WARNING}  # the levels that arrived, by the logger's name
_arrived: dict[str, Any] = {}  # other settings as they arrived last
_installed_handlers: dict[str, list[logging.Handler]] = {}  # the handlers created from these
_installed_filters: dict[str, list[Any]] = {}


def content_of(logger: logging.Logger, read: Read) -> list[Any]:
    """Return the content of a logger and its parents for a digest.

    ``read`` returns the content of a filter, a formatter or a class that the notebook defines.
    """
    return [_content(one, read) for one in _with_parents(logger)]


class Configured:
    """The root logger and all loggers that are set up in this process, and the module `logging`.

    On arrival it sets them up there. Filters and handlers for which ``travels`` returns False are
    left out.
    """

    def __init__(self, travels: Travels) -> None:
        self._settings = [_settings(one, travels) for one in _configured()]
        self._general = _general(travels)

    def __reduce__(self) -> tuple[Any, ...]:
        return set_up, (self._settings, self._general)

    def apart(self) -> Iterator[bytes]:
        """Yield the pickles of filters and formatters that libraries or other modules define."""
        for one in self._settings:
            yield from (part.pickled for part in one.filters)
            for handler in one.handlers:
                yield from (part.pickled for part in handler.filters)
                if handler.formatter is not None:
                    yield handler.formatter.pickled


def content(read: Read) -> list[Any]:
    """Return the content, for a digest, of the module `logging`, of the root logger and of loggers
    named like no module. See `content_of` for ``read``.

    Libraries set up their own loggers when they are imported, at any time.
    """
    found = [_content(one, read) for one in _configured() if _is_of_notebook(one)]
    general = _general()
    made = [one and read(one) for one in (general.factory, general.kind)]
    return [found, *general[:-2], made]


def left_behind(loggers: Iterable[logging.Logger], travels: Travels) -> list[str]:
    """Return a sentence for each filter and handler that stays in the notebook.

    Covers the root logger, loggers named like no module, and ``loggers`` with their parents.
    """
    found = {one for one in _configured() if _is_of_notebook(one)}
    found.update(parent for one in loggers for parent in _with_parents(one))
    sentences = []
    for logger in sorted(found, key=lambda one: one.name):
        parts = [one for one in logger.filters if not _has_part(one, travels)]
        parts += [one for one in logger.handlers if not _has_handler(one, travels)]
        sentences += [
            f"{_name_of(one)} of the logger {logger.name!r} stays in the notebook. "
            "Fix: add it in an @enter method"
            for one in parts
        ]
    return sentences


def _has_part(part: Any, travels: Travels) -> bool:
    return log_parts.part_of(part, travels) is not None


def _has_handler(handler: logging.Handler, travels: Travels) -> bool:
    is_null = type(handler) is logging.NullHandler
    return is_null or log_parts.handler_parts(handler, travels) is not None


def _name_of(part: Any) -> str:
    return str(getattr(part, "__qualname__", type(part).__qualname__))


def _is_of_notebook(logger: logging.Logger) -> bool:
    return logger is logging.root or logger.name.partition(".")[0] not in sys.modules


def _configured() -> list[logging.Logger]:
    """Return the root logger and those that are set up, sorted by name."""
    found = [
        one
        for one in list(logging.root.manager.loggerDict.values())  # others import at any time
        if isinstance(one, logging.Logger)
        and not _is_of_kernel(one)
        and (one.level or one.disabled or not one.propagate or _has_parts(one))
    ]
    return [logging.root, *sorted(found, key=lambda one: one.name)]


def _has_parts(logger: logging.Logger) -> bool:
    return bool(logger.filters or logger.handlers) or log_parts.is_of_notebook(logger)


def _is_of_kernel(logger: logging.Logger) -> bool:
    return logger.name.partition(".")[0] in (*_KERNEL_LOGGERS, _application_name())


def _application_name() -> str:
    """Return the name of the program that runs the cells, by which traitlets names its logger."""
    module = sys.modules.get("traitlets.config.application")
    if module is None or not module.Application.initialized():
        return ""
    return type(module.Application.instance()).__name__


_KERNEL_LOGGERS = frozenset(
    {"IPKernelApp", "IPython", "asyncio", "lifecycle_magic", "parso", "tornado", "traitlets"}
)


def set_up(settings: list[Settings], general: LoggingSettings | None = None) -> None:
    """Set up loggers where definitions arrive."""
    # Imported only where definitions arrive: the kernel reads levels without cloudpickle.
    from lifecycle_magic.wire import definition_load

    if definition_load.is_declaring():
        if general is not None:
            _set_up_module(general)
        for one in settings:
            _set_up(one)


def _set_up(settings: Settings) -> None:
    name = settings.name
    logger = _logger_of(name, settings.kind)
    if logger.level == _levels.get(name, logging.NOTSET):
        logger.setLevel(settings.level)
        _levels[name] = settings.level
    described = _described(settings)
    if _arrived.get(name, (True, False, [], [])) == described:
        return
    _arrived[name] = described
    if logger.filters == _installed_filters.get(name, []):
        logger.filters[:] = _installed_filters[name] = _made(settings.filters, name)
    if logger.handlers == _installed_handlers.get(name, []) or _is_automatic(logger):
        logger.propagate, logger.disabled = settings.propagate, settings.disabled
        logger.handlers[:] = _installed_handlers[name] = _made(settings.handlers, name)


def _made(parts: list[Any], name: str) -> list[Any]:
    """Return filters or handlers, without those whose library the image lacks."""
    found = []
    for part in parts:
        make: Any = log_parts.make_part if isinstance(part, LogPart) else log_parts.make_handler
        try:
            found.append(make(part))
        except Exception as error:  # whatever a library's code raises
            sys.stderr.write(
                f"lifecycle_magic: a filter, formatter or handler of the logger {name!r} "
                f"can't be made here: {type(error).__name__}: {error}\n"
            )
    return found


def _logger_of(name: str, kind: Any) -> logging.Logger:
    """Return the logger of this name, of the class ``kind`` if that is given."""
    if kind is None or name == "root":
        return logging.getLogger(name)
    if isinstance(found := logging.root.manager.loggerDict.get(name), logging.Logger):
        found.__class__ = kind
        return found
    former = logging.getLoggerClass()
    logging.setLoggerClass(kind)
    try:
        return logging.getLogger(name)
    finally:
        logging.setLoggerClass(former)


def _set_up_module(general: LoggingSettings) -> None:
    before = _arrived.get("", LoggingSettings(0, {}, False, None, None))
    _arrived[""] = general
    if logging.root.manager.disable == before.disable:
        logging.disable(general.disable)
    for level, name in general.levels.items():
        logging.addLevelName(level, name)
    if general.captures_warnings != before.captures_warnings:
        logging.captureWarnings(general.captures_warnings)
    if general.factory is not before.factory:
        logging.setLogRecordFactory(general.factory or logging.LogRecord)
    if general.kind is not before.kind:
        logging.setLoggerClass(general.kind or logging.Logger)


def _general(travels: Travels = is_picklable) -> LoggingSettings:
    module: Any = logging
    factory, kind = logging.getLogRecordFactory(), logging.getLoggerClass()
    levels = {k: v for k, v in module._levelToName.items() if _LEVELS.get(k) != v}
    return LoggingSettings(
        logging.root.manager.disable,
        levels,
        module._warnings_showwarning is not None,
        factory if log_parts.is_of_notebook(factory) and travels(factory) else None,
        kind if log_parts.is_of_notebook(kind) and travels(kind) else None,
    )


_LEVELS = {0: "NOTSET", 10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


def _described(settings: Settings) -> tuple[Any, ...]:
    return (
        settings.propagate,
        settings.disabled,
        [one.digest for one in settings.filters],
        [one.digest for one in settings.handlers],
    )


def _is_automatic(logger: logging.Logger) -> bool:
    """Return whether the logger has the handler that `logging.info` and its siblings install."""
    return logger is logging.root and [
        (type(one), one.level, *_formats(one.formatter)) for one in logger.handlers
    ] == [(logging.StreamHandler, logging.NOTSET, logging.BASIC_FORMAT, None)]


def _formats(formatter: logging.Formatter | None) -> tuple[Any, ...]:
    return getattr(formatter, "_fmt", None), getattr(formatter, "datefmt", None)


def _with_parents(logger: logging.Logger) -> list[logging.Logger]:
    found: list[logging.Logger] = []
    one: logging.Logger | None = logger
    while one is not None:
        found.append(one)
        one = one.parent if one.propagate else None
    return found


def _settings(logger: logging.Logger, travels: Travels = is_picklable) -> Settings:
    filters = [log_parts.part_of(one, travels) for one in logger.filters if _is_sent(logger, one)]
    handlers = [
        log_parts.handler_parts(one, travels)
        for one in logger.handlers
        if one.formatter is None or _is_sent(logger, one.formatter)
    ]
    kind = type(logger)
    return Settings(
        logger.name,
        logger.level,
        logger.propagate,
        logger.disabled,
        [one for one in filters if one is not None],
        [one for one in handlers if one is not None],
        kind if log_parts.is_of_notebook(kind) and travels(kind) else None,
    )


def _is_sent(logger: logging.Logger, part: Any) -> bool:
    """Return whether a filter or formatter may be the user's. A library sets up its own loggers
    when it is imported.
    """
    is_of_library = type(part).__module__.partition(".")[0] != "logging"
    return _is_of_notebook(logger) or not is_of_library or log_parts.is_of_notebook(part)


def _content(logger: logging.Logger, read: Read) -> Any:
    settings = logger.name, logger.level, logger.propagate, logger.disabled
    kind = read(type(logger)) if log_parts.is_of_notebook(logger) else None
    filters = [_content_of_part(one, read) for one in logger.filters]
    handlers = [
        _content_of_handler(one, read)
        for one in logger.handlers
        if log_parts.handler_parts(one) is not None
    ]
    return settings, kind, filters, handlers


def _content_of_handler(handler: Any, read: Read) -> Any:
    own = type(handler), log_parts.state_of(handler)
    return (
        handler.level,
        log_parts.stream_name(getattr(handler, "stream", None)),
        _content_of_part(handler.formatter, read),
        [_content_of_part(one, read) for one in handler.filters],
        read(own) if log_parts.is_of_notebook(handler) else None,
    )


def _content_of_part(part: Any, read: Read) -> Any:
    """Return what a fingerprint reads of a filter or formatter."""
    if part is None or log_parts.is_of_notebook(part):
        return part if part is None else read(part)
    found = log_parts.part_of(part)
    return type(part).__qualname__, None if found is None else found.digest
