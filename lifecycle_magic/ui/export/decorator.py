"""The line of ``%%lifecycle_cls`` as a decorator: ``@app.cls(image=..., cpu=1)``."""

from __future__ import annotations

import argparse

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.notebook import options_line

__all__ = ["app_name", "decorator", "literal"]

_LINE = 88  # characters; a longer decorator gets a line for each option
_IMAGE_METHODS = {
    "--pip": "pip_install",
    "--uv-pip": "uv_pip_install",
    "--apt": "apt_install",
    "--run": "run_commands",
}


def decorator(line: str, lm: str, app: str) -> str:
    """Return the decorator for a class of a cell with this line; ``lm`` and ``app`` are names.

    Flags for one run of the cell (``--lazy``, ``--fresh``, ``--rebuild``) and ``--app`` are left
    out. Raises `InvalidError` for a wrong line.

    >>> print(decorator("--pip numpy --cpu 2 --lazy", "lm", "app"))
    @app.cls(image=lm.Image.debian_slim().pip_install("numpy"), cpu=2)
    """
    given = options_line.read(line)
    options = _objects(given, lm)
    for name, value in options_line.plain_options(given).items():
        if value is not None:
            options[name] = literal(value)
    parts = [f"{name}={text}" for name, text in options.items()]
    short = f"@{app}.cls({', '.join(parts)})"
    if len(short) <= _LINE:
        return short
    return "\n".join([f"@{app}.cls(", *(f"    {part}," for part in parts), ")"])


def app_name(line: str) -> str:
    """Return the name that the line gives with ``--app``, or an empty string."""
    return options_line.read(line).app or ""


def literal(value: object) -> str:
    """Return the source of a string, number, list or dict, with double quotes where they suit.

    >>> print(literal({"A": ["b", 1.5]}))
    {"A": ["b", 1.5]}
    """
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    text = repr(value)
    if isinstance(value, str) and text.startswith("'") and '"' not in text:
        return f'"{text[1:-1]}"'
    return text


def _objects(given: argparse.Namespace, lm: str) -> dict[str, str]:
    """Return the source of the options that are no single values."""
    options = {}
    if given.image or given.python or given.steps:
        options["image"] = _image(given, lm)
    if given.env:
        options["env"] = literal(dict(options_line.env_pair(text) for text in given.env))
    secrets = [f"{lm}.Secret.from_dotenv({literal(file)})" for file in given.dotenv]
    if given.secret:
        secrets.append(f"{lm}.Secret.from_local_environ({literal(given.secret)})")
    if secrets:
        options["secrets"] = f"[{', '.join(secrets)}]"
    if given.volume:
        mounts = dict(_mount(text, lm) for text in given.volume)
        pairs = ", ".join(f"{literal(path)}: {volume}" for path, volume in mounts.items())
        options["volumes"] = f"{{{pairs}}}"
    return options


def _image(given: argparse.Namespace, lm: str) -> str:
    if given.image:
        text = f"{lm}.Image.from_registry({literal(given.image)})"
    else:
        text = f"{lm}.Image.debian_slim({literal(given.python) if given.python else ''})"
    for flag, words in options_line.merged_steps(given.steps):
        text += f".{_IMAGE_METHODS[flag]}({', '.join(map(literal, words))})"
    return text


def _mount(text: str, lm: str) -> tuple[str, str]:
    """Return the path in the container and the source of the volume, for ``SOURCE:PATH``."""
    source, colon, path = text.rpartition(":")
    if not colon or not source:
        raise InvalidError(
            f"export: --volume {text}: invalid volume. Fix: write NAME:/path or ./folder:/path"
        )
    if source.startswith((".", "~")) or "/" in source:
        return path, f"{lm}.Volume.from_path({literal(source)})"
    return path, f"{lm}.Volume.from_name({literal(source)})"
