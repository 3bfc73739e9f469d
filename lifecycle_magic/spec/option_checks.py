"""The checks of options: each takes a name and a value and returns the value in its final form.

They raise `InvalidError` with the name, the value and what it has to be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.host import docker_contexts
from lifecycle_magic.spec.number_checks import refusal

if TYPE_CHECKING:
    from lifecycle_magic.images.image import Image
    from lifecycle_magic.secret import Secret
    from lifecycle_magic.spec.retries import Retries
    from lifecycle_magic.volume import Volume

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def flag(name: str, value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise refusal(name, value, "must be True or False")
    return value


def gpu(name: str, value: Any) -> str | int | tuple[str | int, ...] | None:
    """Return a count of GPUs, the name of a model, or a tuple of such alternatives.

    False, which old programs for Modal have, is none.
    """
    if value is False:
        return None
    from lifecycle_magic.gpus import request

    try:
        request.read(value)
    except ValueError as error:
        raise refusal(name, value, str(error)) from None
    if isinstance(value, (list, tuple)):
        return tuple(one.strip() if isinstance(one, str) else one for one in value)
    return cast("str | int", value.strip() if isinstance(value, str) else value)


def engine(name: str, value: Any) -> str:
    """Return the name or address of an engine."""
    known = isinstance(value, str) and (
        value in ("auto", "docker", "process", "swarm")
        or re.fullmatch(r"(ssh|tcp|https|unix|swarm)://[^\s?#]+", value)
        or docker_contexts.endpoint(value)
    )
    if not known:
        raise refusal(
            name,
            value,
            "must be 'auto', 'docker', 'process', 'swarm', an address such as 'ssh://user@host', "
            "'tcp://host:2376' or 'swarm://manager:2376', or the name of one of Docker's contexts "
            "(docker context ls)",
        )
    return cast(str, value)


_CONSTRAINT = re.compile(
    r"(node\.(id|hostname|role|platform\.(os|arch)|labels\.[\w.\-/]+)|engine\.labels\.[\w.\-/]+)"
    r"\s*(==|!=)\s*[\w.:\-/]+\Z"
)


def placement(name: str, value: Any) -> tuple[str, ...]:
    """Return constraints on the nodes of a swarm, as a tuple."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise refusal(name, value, "must be a list of strings. Fix: write ['node.labels.zone==a']")
    for one in value:
        if not _CONSTRAINT.match(one):
            raise refusal(
                name,
                one,
                "must compare something of a node, as in 'node.labels.zone==a', "
                "'node.hostname!=box1' or 'node.role==worker'",
            )
    return tuple(one.strip() for one in value)


def retries(name: str, value: Any) -> Retries:
    """Return the policy; a number is the number of retries."""
    from lifecycle_magic.spec.retries import Retries

    if isinstance(value, Retries):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refusal(name, value, "must be a whole number, 0 or more, or lm.Retries(...)")
    return Retries(max_retries=value)


def image(name: str, value: Any) -> Image:
    """Return an image."""
    from lifecycle_magic.images.image import Image

    if not isinstance(value, Image):
        hint = (
            f"write Image.from_registry({value!r})"
            if isinstance(value, str)
            else "write Image.debian_slim()"
        )
        raise refusal(name, value, f"must be an Image. Fix: {hint}")
    return value


def env(name: str, value: Any) -> Mapping[str, str]:
    """Return environment variables, sorted by name; a value of None is omitted."""
    if not isinstance(value, Mapping):
        raise InvalidError(
            f"{name} must be a mapping of names to strings, not a {_type(value)}. "
            "Fix: write {'NAME': 'value'}"
        )
    given = {key: text for key, text in value.items() if text is not None}
    for key, text in given.items():
        if not isinstance(key, str) or not _ENV_NAME.match(key):
            raise InvalidError(
                f"{name}: {key!r} is not a valid name of an environment variable. "
                "Fix: use letters, digits and underscores, and no digit first"
            )
        if not isinstance(text, str):  # the value itself may be a secret: never in a message
            raise InvalidError(
                f"{name}[{key!r}] must be a string, not a {_type(text)}. Fix: convert it with str()"
            )
        if "\0" in text:
            raise InvalidError(f"{name}[{key!r}] contains a NUL character. Fix: remove it")
    return dict(sorted(given.items()))


def secrets(name: str, value: Any) -> tuple[Secret, ...]:
    """Return secrets as a tuple."""
    from lifecycle_magic.secret import Secret

    if isinstance(value, Secret):
        raise InvalidError(f"{name} must be a list. Fix: write {name}=[secret]")
    if not isinstance(value, (list, tuple)) or not all(isinstance(s, Secret) for s in value):
        raise InvalidError(
            f"{name} must be a list of Secret objects. Fix: write {name}=[Secret.from_dict(...)]"
        )
    return tuple(value)


def volumes(name: str, value: Any) -> Mapping[str, Volume]:
    """Return volumes by their mount paths, sorted."""
    from lifecycle_magic.checks import check_mount_path
    from lifecycle_magic.volume import Volume

    if not isinstance(value, Mapping):
        raise InvalidError(
            f"{name} must be a mapping of absolute paths to volumes, not a {_type(value)}. "
            'Fix: write {"/weights": Volume.from_name("weights")}'
        )
    found: dict[str, Volume] = {}
    for given, volume in value.items():
        path = check_mount_path(given)
        if path in found:
            raise InvalidError(f"{name}: two volumes at {path}. Fix: give one of them another path")
        if not isinstance(volume, Volume):
            raise InvalidError(
                f"{name}[{path!r}] must be a Volume, not a {_type(volume)}. "
                "Fix: write Volume.from_name(...), Volume.from_path(...) or Volume.ephemeral()"
            )
        found[path] = volume
    return dict(sorted(found.items()))


def _type(value: object) -> str:
    return type(value).__name__
