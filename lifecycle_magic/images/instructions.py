"""Dockerfile instructions as strings, one line each.

What a user gives (packages, commands, paths, values) reaches the engine in the exec form, which is
JSON, or escaped: no string of a step can become another instruction or another shell command. See
https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

__all__ = ["copy", "env", "run", "run_anew", "unpacked", "workdir"]


def run(*words: str) -> str:
    """Return the instruction that runs a command, given word by word: no shell reads it.

    >>> run("make", "all; rm -r /")
    'RUN ["make", "all; rm -r /"]'
    """
    return f"RUN {json.dumps(list(words))}"


def run_anew(instruction: str, mark: str) -> str:
    """Return a step's ``RUN`` with ``mark``, which differs each time, so that no builder's cache
    has it.
    """
    words = json.loads(instruction.removeprefix("RUN "))
    return run("env", f"LIFECYCLE_MAGIC_FORCED={mark}", *words)


def copy(source: str, target: str) -> str:
    """Return the instruction that copies a path of the build context to a path of the image."""
    return f"COPY {_paths(source, target)}"


def unpacked(archive: str, target: str) -> str:
    """Return the instruction that unpacks a tar of the build context into a folder of the image."""
    return f"ADD {_paths(archive, target)}"


def env(variables: Iterable[tuple[str, str]]) -> str:
    """Return the instruction that sets environment variables."""
    return "ENV " + " ".join(f'{name}="{_escape(value)}"' for name, value in variables)


def workdir(path: str) -> str:
    """Return the instruction that sets the working folder."""
    return f'WORKDIR "{_escape(path)}"'


def _paths(source: str, target: str) -> str:
    # Even in the exec form, the builder reads these instructions' words as if they were unquoted.
    quoted = f'"{_escape(target)}"'
    return json.dumps([source, quoted])


def _escape(text: str) -> str:
    # In these instructions the builder expands variables and removes quotes and backslashes.
    return re.sub(r'([\\"$])', r"\\\1", text)
