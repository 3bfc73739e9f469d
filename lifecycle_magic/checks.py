"""What users write in recipes, secrets and volumes, checked where they write it.

``call`` is what the user called, for the message: ``Image.pip_install``, ``Secret``. Messages show
what was given, but never a value that may be secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from lifecycle_magic.exception import InvalidError

# user:password@ in any URL, and over HTTP a lone user@ too, which is how tokens are given.
# A password that is a shell variable is none.
_CREDENTIALS = re.compile(r"\w://[^\s/@:]*:[^\s/@$]+@|\bhttps?://[^\s/@$]+@", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VERSION = re.compile(r"3\.\d+(\.\d+)?", re.ASCII)
# The grammar of image references: distribution/reference, reference.go.
_PATH = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d+)?/)?{_PATH}(?:/{_PATH})*"
    r"(?::\w[\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?|sha256:[0-9a-f]{64}",
    re.ASCII,
)


def matches(pattern: re.Pattern[str], value: object) -> bool:
    """Whether ``value`` is a text and the whole of it fits ``pattern``."""
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def flatten(call: str, given: Iterable[str | Sequence[str]]) -> tuple[str, ...]:
    """Texts given one by one, in lists, or both, as one tuple.

    >>> flatten("Image.pip_install", ["a", ["b", "c"]])
    ('a', 'b', 'c')
    """
    flat: list[str] = []
    for item in given:
        texts: object = [item] if isinstance(item, str) else item
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
            raise InvalidError(f"{call} takes texts or lists of them, not {item!r}")
        flat.extend(texts)
    return tuple(flat)


def pairs(call: str, variables: object) -> tuple[tuple[str, str], ...]:
    """A dict of environment variables as pairs, sorted: its order means nothing."""
    if not isinstance(variables, dict):
        raise InvalidError(f"{call} takes a dict of texts, not {type(variables).__name__}")
    check_variables(call, variables.items())
    return tuple(sorted(variables.items()))


def host_path(call: str, path: object) -> Path:
    """An absolute path of this host; relative ones start at the current folder, ``~`` is home."""
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise InvalidError(f"{call} takes a path of this machine, not {path!r}")
    return Path(path).expanduser().absolute()


def check_text(call: str, what: str, text: object) -> None:
    """Refuse what is no text, is blank, or has line breaks or control characters in it."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidError(f"{call}: {what} must be a text that is not empty, not {text!r}")
    if not text.isprintable():
        raise InvalidError(
            f"{call}: {what} has a line break or control character: {text!r}: write it on one line"
        )


def check_variables(call: str, variables: Iterable[tuple[object, object]]) -> None:
    """Refuse names that no environment variable can have, and values that are no texts."""
    for name, value in variables:
        if not matches(_VARIABLE, name):
            raise InvalidError(
                f"{call}: {name!r} is no name of an environment variable: "
                "use letters, digits and underscores, and no digit first"
            )
        if not isinstance(value, str):
            raise InvalidError(
                f"{call}: the value of {name} must be a text, not {type(value).__name__}: "
                "convert it with str()"
            )
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidError(
                f"{call}: the value of {name} has a NUL or half a surrogate pair, which no "
                "environment can have: leave it out"
            )


def check_reference(call: str, reference: object) -> None:
    """Refuse what can't be the name or id of an image."""
    if not matches(_REFERENCE, reference):
        raise InvalidError(
            f"{call} is no name of an image: write it as docker pull takes it, such as "
            "'python:3.11-bookworm' or 'registry.example/owner/name:tag', in lower case"
        )


def check_version(call: str, version: str, kernel: str) -> None:
    """Refuse what is no version of Python, or of another minor (``3.11``) than the kernel's."""
    if not matches(_VERSION, version):
        raise InvalidError(
            f"{call} is no version of Python: write a text such as {kernel!r}, or leave it out"
        )
    if ".".join(version.split(".")[:2]) != kernel:
        raise InvalidError(
            f"{call}: this kernel runs Python {kernel}, and code does not travel between Python "
            f"versions: leave python_version out, or start a kernel with Python {version}"
        )


def check_remote(call: str, path: object) -> None:
    """Refuse what is no absolute path inside an image."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidError(f"{call}: {path!r} is no absolute path in the image: start it with '/'")
    if not path.isprintable() or ".." in PurePosixPath(path).parts:
        raise InvalidError(
            f"{call}: {path!r} has '..' or a control character: write the path plainly"
        )


def refuse_credentials(call: str, *texts: str | None) -> None:
    """Refuse URLs with a user name or password: an image's history is for everybody who has it."""
    # The text itself must not be shown: the password is in it.
    if any(text and _CREDENTIALS.search(text) for text in texts):
        raise InvalidError(
            f"{call} was given a URL with a user name or password in it, and everybody who has the "
            "image could read it in the image's history: install from there in a @build hook, "
            "which sees the class's secrets (secrets=[Secret.from_dict(...)]) and leaves none of "
            "them in the image"
        )
