"""The errors of this package.

Error:
    ├── InvalidError (ValueError)            a declaration, option or argument that can't work
    ├── EngineError (RuntimeError)           an engine refused, failed or stopped
    │   └── EngineUnavailable                no engine answers
    ├── NotFoundError (LookupError)          nothing has this name
    ├── BuildError (RuntimeError)            an image step or a build hook failed
    ├── StartError (RuntimeError)            a container failed to start
    │   ├── HandshakeError                   the other side is not what was launched
    │   └── StartTimeout (TimeoutError)      start and enter took longer than startup_timeout
    ├── ContainerDied (RuntimeError)         a container exited while running a call
    ├── WireError (ConnectionError)          a frame that can't be right
    ├── SerializationError (TypeError)       an argument or a result that can't be pickled
    ├── MethodTimeout (TimeoutError)         one attempt of an input took longer than timeout
    ├── InputCancelled (RuntimeError)        the input was cancelled before it returned
    └── RemoteError (RuntimeError)           an exception of the method that can't be raised here

An exception that a method raises is none of these: it arrives as its own type. Each
class here also inherits the builtin that a caller would catch, and each takes one message,
so all of them survive pickling.

>>> import lifecycle_magic as lm
>>> issubclass(lm.exception.BuildError, lm.Error)
True
"""

from __future__ import annotations

__all__ = [
    "BuildError",
    "ContainerDied",
    "EngineError",
    "EngineUnavailable",
    "Error",
    "HandshakeError",
    "InputCancelled",
    "InvalidError",
    "MethodTimeout",
    "NotFoundError",
    "RemoteError",
    "SerializationError",
    "StartError",
    "StartTimeout",
    "WireError",
]


class Error(Exception):
    """The base of all errors of this package. Exceptions of methods keep their own types.

    >>> isinstance(InvalidError("cpu=0: it has to be positive"), Error)
    True
    """


class InvalidError(Error, ValueError):
    """A declaration, an option or an argument that can't work; the message names the fix."""


class EngineError(Error, RuntimeError):
    """The engine refused something, failed, or stopped while it was used."""


class EngineUnavailable(EngineError):
    """No engine answers where one was asked for."""


class NotFoundError(Error, LookupError):
    """Nothing has this name: no stored secret, no class that a session serves."""


class BuildError(Error, RuntimeError):
    """An image step or a ``@build`` hook failed; the message ends with its last lines."""


class StartError(Error, RuntimeError):
    """A container did not come up; the message quotes its state and its last lines."""


class HandshakeError(StartError):
    """The other side of a new connection has a wrong token, protocol version or Python minor."""


class StartTimeout(StartError, TimeoutError):
    """The container's start and its ``enter`` hooks took longer than ``startup_timeout``."""


class ContainerDied(Error, RuntimeError):
    """The container went while it was running this input; the message says why."""


class WireError(Error, ConnectionError):
    """A frame arrived that is malformed or larger than a frame may be."""


class SerializationError(Error, TypeError):
    """An argument or a result can't be pickled; the message names which one."""


class MethodTimeout(Error, TimeoutError):
    """One attempt of an input took longer than the class's ``timeout``."""


class InputCancelled(Error, RuntimeError):
    """The input was cancelled before it returned."""


class RemoteError(Error, RuntimeError):
    """An exception of the method that can't be raised here as it was; the message has its text.

    ``code`` is that of a `SystemExit`. ``original`` is the exception itself, where there is one.
    """

    code: object = None
    original: BaseException | None = None


OF_MODAL: dict[str, type[BaseException]] = {
    "ConnectionError": EngineUnavailable,
    "DeserializationError": SerializationError,
    "ExecutionError": ContainerDied,
    "ImageBuildError": BuildError,
    "FunctionTimeoutError": MethodTimeout,
    "InputCancellation": InputCancelled,
    "InternalError": EngineError,
    "InternalFailure": EngineError,
    "OutputExpiredError": NotFoundError,
    "ResourceExhaustedError": EngineError,
    "TimeoutError": TimeoutError,  # the base of those that end with a time limit
}
"""Names in ``modal.exception``, and what is raised here in such a case."""

OF_MODAL_TOO = ("Error", "InvalidError", "NotFoundError", "RemoteError", "SerializationError")
"""Errors of the same name in both packages."""

NEVER_RAISED = (
    *("AlreadyExistsError", "AsyncUsageWarning", "AuthError", "ClientClosed", "ConflictError"),
    *("DataLossError", "DeprecationError", "ExecTimeoutError", "InteractiveTimeoutError"),
    "InternalAPIWarning",
    *("InvalidIdError", "LogsFetchError", "PendingDeprecationError", "ServerWarning"),
    *("SandboxFilesystemDirectoryNotEmptyError", "SandboxFilesystemFileTooLargeError"),
    *("SandboxFilesystemIsADirectoryError", "SandboxFilesystemNotADirectoryError"),
    *("SandboxFilesystemNotFoundError", "SandboxFilesystemPathAlreadyExistsError"),
    *("SandboxFilesystemPermissionError", "UserCodeException"),
    *("ModuleNotMountable", "MountUploadTimeoutError", "PermissionDeniedError"),
    *("RequestSizeError", "SandboxFilesystemError", "SandboxTerminatedError"),
    *("SandboxTimeoutError", "ServiceError", "SnapshotCreationError", "UnimplementedError"),
    *("VersionError", "VolumeUploadTimeoutError", "WorkspaceManagementError"),
)
"""Further names there: a handler for one of them may stay, and never runs."""

REFUSED = {"simulate_preemption": "Fix: remove it, nothing preempts containers here"}
"""The other names of ``modal.exception``, and what to write instead."""


def __getattr__(name: str) -> type[BaseException]:
    if name in OF_MODAL:
        return OF_MODAL[name]
    if name in NEVER_RAISED:
        base = UserWarning if name.endswith("Warning") else Error
        made = type(name, (base,), {"__module__": __name__, "__doc__": "Never raised here."})
        globals()[name] = made
        return made
    if name in REFUSED:
        raise AttributeError(f"Modal has exception.{name}, here there is none. {REFUSED[name]}")
    raise AttributeError(
        f"module {__name__!r} has no exception {name}; it has {', '.join(__all__)}"
    )
