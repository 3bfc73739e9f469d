"""What Modal's images have and these have not, each refused by name with what to write instead."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from lifecycle_magic.exception import InvalidError

__all__ = ["Declined", "decline"]

_OPTIONS = {
    "secrets": "everybody who has the image could read what a step of it saw: do what needs them "
    "in a @build hook, or with .run_function(..., secrets=[...])",
    "secret": "the engine pulls with its own credentials: run docker login on this machine",
    "env": "set it with .env({...}) before the step, or for a command alone with "
    ".run_commands('...', env={...})",
    "gpu": "no step of a recipe has a GPU: do it in a @build hook, with gpu= on the class",
    "volumes": "no step of a recipe has volumes: do it in a @build hook, or with "
    ".run_function(..., volumes={...})",
    "include_source": "modules beside the notebook that a function refers to travel with it: "
    "leave it out",
    "ignore": "a package travels whole, but for hidden and compiled files: leave it out, or add a "
    "folder with .add_local_dir(..., ignore=[...])",
    "copy": "modules are given to containers, and are no layer for later steps: add the folder "
    "with .add_local_dir(...)",
    "setup_dockerfile_commands": "write them as .run_commands(...) after it",
    "requirements": "use .pip_install_from_requirements(...)",
    "uv_version": "pin it with .pip_install('uv==...') before it",
    "network": "a command has the engine's own network: leave it out",
}


def decline(method: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse options of Modal's that ``method`` of `Image` has not; a false value asks nothing."""
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


class Declined:
    """Steps of Modal's images that would do nothing here, or can be written otherwise."""

    def entrypoint(self, *_: object, **__: object) -> NoReturn:
        """Refused: a container runs the class and nothing else."""
        raise InvalidError(
            "Image.entrypoint: a container runs the class, so no entry point would run: start what "
            "has to run before it in an @enter hook"
        )

    def cmd(self, *_: object, **__: object) -> NoReturn:
        """Refused: a container runs the class and nothing else."""
        raise InvalidError(
            "Image.cmd: a container runs the class, so no command would run: start what has to run "
            "before it in an @enter hook"
        )

    def dockerfile_commands(self, *_: object, **__: object) -> NoReturn:
        """Refused: a Dockerfile has a method of its own."""
        raise InvalidError(
            "Image.dockerfile_commands: write RUN as .run_commands(...), ENV as .env({...}), COPY "
            "as .add_local_dir(...) or .add_local_file(...), WORKDIR as .workdir(...), or start "
            "from a whole Dockerfile with Image.from_dockerfile(path)"
        )
