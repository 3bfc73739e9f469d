"""Methods and options of Modal's images that are not supported here, each with its replacement."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from lifecycle_magic.exception import InvalidError

__all__ = ["UnsupportedSteps", "decline", "ignore_options"]

_OPTIONS = {
    "secrets": "the engine would show them. Fix: use them in a step after it, as in "
    ".run_commands(..., secrets=[...])",
    "secret": "the engine pulls with its own credentials. Fix: run docker login on this machine",
    "env": "set it with .env({...}) before the step, or for a command alone with "
    ".run_commands('...', env={...})",
    "volumes": "Fix: use .run_commands(..., volumes={...}) or .run_function(..., volumes={...})",
    "include_source": "modules next to the notebook that a function refers to travel with it. "
    "Fix: omit it",
    "setup_dockerfile_commands": "write them as .run_commands(...) after it",
    "network": "a command uses the engine's own network. Fix: omit it",
}


def decline(method: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise `InvalidError` for Modal's options that ``method`` of `Image` lacks; false
    values pass.
    """
    call = f"Image.{method.__name__}"
    known = [
        name
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    for name, value in given.items():
        if name in _OPTIONS:
            if value:
                raise InvalidError(f"{call} has no {name}= here: {_OPTIONS[name]}")
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
        raise InvalidError(f"{call} has no option {name}: {hint}")


class UnsupportedSteps:
    """Steps of Modal's images that would do nothing here, or are written in another way."""

    def shell(self, *_: object, **__: object) -> NoReturn:
        """Raise `InvalidError`: steps run in ``/bin/sh``."""
        raise InvalidError(
            "Image.shell: steps run in /bin/sh. Fix: name the shell in the command, as in "
            ".run_commands(\"bash -c '...'\")"
        )

    def pip_install_private_repos(self, *_: object, **__: object) -> NoReturn:
        """Raise `InvalidError`: a shell command does it."""
        raise InvalidError(
            "Image.pip_install_private_repos is not here. Fix: .apt_install('git').run_commands("
            "'pip install git+https://$TOKEN@github.com/...', secrets=[...])"
        )

    @classmethod
    def from_aws_ecr(cls, *_: object, **__: object) -> NoReturn:
        """Raise `InvalidError`: the engine pulls with its own credentials."""
        raise _own_credentials("from_aws_ecr")

    @classmethod
    def from_gcp_artifact_registry(cls, *_: object, **__: object) -> NoReturn:
        """Raise `InvalidError`: the engine pulls with its own credentials."""
        raise _own_credentials("from_gcp_artifact_registry")

    @classmethod
    def from_id(cls, *_: object, **__: object) -> NoReturn:
        """Raise `InvalidError`: images have the engine's ids here."""
        raise InvalidError(
            "Image.from_id: an id of Modal's names nothing here. Fix: use the recipe, or "
            "Image.from_registry('sha256:...') with an id of the engine's"
        )

    @classmethod
    def from_scratch(cls, *_: object, **__: object) -> NoReturn:
        """Raise `InvalidError`: a class needs an image with Python."""
        raise InvalidError(
            "Image.from_scratch: a class needs an image with Python. Fix: use Image.debian_slim()"
        )


def _own_credentials(name: str) -> InvalidError:
    return InvalidError(
        f"Image.{name}: the engine pulls with its own credentials. Fix: run docker login for that "
        "registry on this machine, and use Image.from_registry(...)"
    )


def ignore_options(method: str, **options: object) -> None:
    """Warn of given options of Modal's that have no effect on a step here."""
    for name, value in options.items():
        if value:
            warnings.warn(
                f"Image.{method}({name}={value!r}) has no effect: {_IGNORED[name]}", stacklevel=4
            )


_IGNORED = {
    "gpu": "steps run without a GPU. Use a @build hook, with gpu= on the class, for what needs one",
    "uv_version": "the uv of this machine installs the packages",
    "copy": "modules travel when a container starts, and later steps of the image do not see them",
    "ignore": "a package travels as a whole",
}
