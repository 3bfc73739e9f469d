"""Checks of what users write in recipes, secrets and volumes, made where they write it.

``call`` is what the user called, for the message: ``Image.pip_install``, ``Secret``. Messages show
the given value, but never one that may be secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from lifecycle_magic.exception import InvalidError

# user:password@ in any URL, and over HTTP also a lone user@, which is how tokens are given. A
# password that is a shell variable is no secret.
_CREDENTIALS = re.compile(r"\w://[^\s/@:]*:[^\s/@$]+@|\bhttps?://[^\s/@$]+@", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LARGEST_ENVIRONMENT = 1_000_000
"""Bytes of all variables of a class, of the 2 MiB that Linux gives a program with its arguments."""

LONGEST_VARIABLE = 131_071
"""Bytes of ``NAME=value`` that Linux passes to a program at most (MAX_ARG_STRLEN, execve(2))."""

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
"""The minor versions of Python that a container can have."""

_VERSION = re.compile(r"3\.\d+(\.\d+)?", re.ASCII)
# The grammar of image references: distribution/reference, reference.go.
_PATH = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d+)?/)?{_PATH}(?:/{_PATH})*"
    r"(?::\w[\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?|sha256:[0-9a-f]{64}",
    re.ASCII,
)

# A mount there would break the container's own system, the guest or its run folder.
_RESERVED = ("/dev", "/proc", "/sys", "/run/lifecycle", "/opt/lifecycle_magic")
_SYSTEM = ("/", "/bin", "/etc", "/lib", "/lib64", "/opt", "/run", "/sbin", "/usr", "/var")


def matches(pattern: re.Pattern[str], value: object) -> bool:
    """Return whether ``value`` is a string and all of it matches ``pattern``."""
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def flatten(call: str, given: Iterable[str | Sequence[str]]) -> tuple[str, ...]:
    """Return strings given one by one, in lists, or both, as one tuple.

    >>> flatten("Image.pip_install", ["a", ["b", "c"]])
    ('a', 'b', 'c')
    """
    flat: list[str] = []
    for item in given:
        texts: object = [item] if isinstance(item, str) else item
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
            raise InvalidError(
                f"{call} takes strings or lists of strings, not {item!r}. "
                "Fix: convert it with str()"
            )
        flat.extend(texts)
    return tuple(flat)


def pairs(call: str, variables: object) -> tuple[tuple[str, str], ...]:
    """Return a dict of environment variables as sorted pairs: its order has no meaning."""
    if not isinstance(variables, dict):
        raise InvalidError(
            f"{call} takes a dict of strings, not {type(variables).__name__}. "
            "Fix: write {'NAME': 'value'}"
        )
    check_variables(call, variables.items())
    return tuple(sorted(variables.items()))


def host_path(call: str, path: object) -> Path:
    """Return an absolute path of this host. Relative paths start at the current folder, ``~`` is
    home.

    Raises `InvalidError` for a path that this user can't look at, or that no system can have.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise InvalidError(
            f"{call} takes a path of this machine, not {path!r}. Fix: give a string or a Path"
        )
    try:
        found = Path(path).expanduser().absolute()
        found.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, a user that is not there
        why = getattr(error, "strerror", None) or error
        raise InvalidError(
            f"{call}: the path {str(path)!r} can't be used: {why}. Fix: check the path"
        ) from None
    return found


def check_text(call: str, what: str, text: object) -> None:
    """Raise `InvalidError` unless ``text`` is a non-blank string of one line."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidError(f"{call}: {what} must be a string that is not empty, not {text!r}")
    if not text.isprintable():
        raise InvalidError(
            f"{call}: {what} has a line break or control character: {text!r}. Fix: write one line"
        )


def check_variables(call: str, variables: Iterable[tuple[object, object]]) -> None:
    """Raise `InvalidError` for invalid names of environment variables and for values that are no
    strings.
    """
    for name, value in variables:
        if not matches(_VARIABLE, name):
            raise InvalidError(
                f"{call}: {name!r} is not a valid name of an environment variable. "
                "Fix: use letters, digits and underscores, and no digit first"
            )
        if not isinstance(value, str):
            raise InvalidError(
                f"{call}: the value of {name} must be a string, not {type(value).__name__}. "
                f"Fix: convert it with str()"
            )
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidError(
                f"{call}: the value of {name} has a NUL or half a surrogate pair, which no "
                "environment variable can have. Fix: remove it"
            )
        size = len(f"{name}={value}".encode())
        if size > LONGEST_VARIABLE:
            raise InvalidError(
                f"{call}: {name} has {size} bytes with its value, and a longer variable than "
                f"{LONGEST_VARIABLE} bytes keeps every program from starting (E2BIG). "
                "Fix: put it into a file of a volume, and its path into the variable"
            )


def check_environment(call: str, variables: Mapping[str, str]) -> None:
    """Raise `InvalidError` for variables that leave no room for a program's arguments.

    Linux counts each string and a pointer to it: execve(2), "Limits on size of arguments".
    """
    sizes = {name: len(f"{name}={value}".encode()) + 9 for name, value in variables.items()}
    total = sum(sizes.values())
    if total > LARGEST_ENVIRONMENT:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        raise InvalidError(
            f"{call}: its {len(sizes)} environment variables have {total} bytes together, and more "
            f"than {LARGEST_ENVIRONMENT} keep programs from starting (E2BIG). The largest are "
            f"{', '.join(largest)}. Fix: put them into files of a volume"
        )


def check_reference(call: str, reference: object) -> None:
    """Raise `InvalidError` for what can't be the name or id of an image."""
    if not matches(_REFERENCE, reference):
        raise InvalidError(
            f"{call} is not a valid name of an image. Fix: write it as docker pull takes it, "
            "such as 'python:3.11-bookworm' or 'registry.example/owner/name:tag', in lower case"
        )


def check_version(call: str, version: str) -> str:
    """Return the minor version of a version of Python, such as ``3.12`` for ``3.12.4``.

    Raises `InvalidError` for what is no version of Python, or one that no class can run on.
    """
    if not matches(_VERSION, version):
        raise InvalidError(
            f"{call} is no version of Python. Fix: write a string such as '3.12', or omit it"
        )
    minor = ".".join(version.split(".")[:2])
    if minor not in PYTHONS:
        raise InvalidError(
            f"{call}: a class runs on Python {PYTHONS[0]} to {PYTHONS[-1]}. "
            f"Fix: name one of {', '.join(PYTHONS)}"
        )
    return minor


def check_remote(call: str, path: object) -> None:
    """Raise `InvalidError` for what is no absolute path inside an image."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidError(f"{call}: {path!r} is no absolute path. Fix: start it with '/'")
    if not path.isprintable() or ".." in PurePosixPath(path).parts:
        raise InvalidError(
            f"{call}: {path!r} has '..' or a control character. Fix: write the path without them"
        )


def refuse_credentials(call: str, *texts: str | None) -> None:
    """Raise `InvalidError` for URLs with a user name or password: an image's history is not
    secret.
    """
    # The URL must not be shown: it contains the password.
    if any(text and _CREDENTIALS.search(text) for text in texts):
        raise InvalidError(
            f"{call} was given a URL with a user name or password, and everyone who has the image "
            "could read it in the image's history. Fix: put it in a variable that the step is "
            "given as secrets=[Secret.from_dict(...)]: an index as PIP_INDEX_URL, what a command "
            "names as $NAME"
        )


def check_mount_path(path: str | os.PathLike[str]) -> str:
    """Return ``path`` normalised, as an absolute path at which a volume may be mounted.

    Raises `InvalidError` for a relative path and for one that the container itself needs.
    """
    text = str(path)
    if not text.startswith("/"):
        raise InvalidError(
            f"a volume is mounted at an absolute path in the container, not at {path!r}. "
            "Fix: write volumes={'/data': Volume.from_name('data')}"
        )
    if not text.isprintable() or ":" in text or ".." in PurePosixPath(text).parts:
        raise InvalidError(
            f"a volume can't be mounted at {text!r}. Fix: use a path without '..', ':' "
            "and control characters"
        )
    plain = "/" + "/".join(part for part in text.split("/") if part not in {"", "."})
    inside = any(plain == taken or plain.startswith(taken + "/") for taken in _RESERVED)
    if inside or plain in _SYSTEM:
        raise InvalidError(
            f"a volume can't be mounted at {plain!r}, which the container itself needs. "
            "Fix: choose another folder, such as '/data'"
        )
    return plain
