"""Options of classes and functions under the names that they had in Modal before 1.0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from lifecycle_magic.decorators.hooks import concurrent
from lifecycle_magic.exception import InvalidError

if TYPE_CHECKING:
    from lifecycle_magic.spec.options import Options

__all__ = ["current_names", "old_concurrency"]
T = TypeVar("T")


def current_names(where: str, given: Mapping[str, Any], before: Options) -> dict[str, Any]:
    """Return the options ``given``, the old ones under their current names; each warns once.

    What an old option adds to (volumes, an image) starts from ``given``, or from ``before``.
    Raises `InvalidError` for an option that is given under both names.
    """
    found = dict(given)
    for old in (name for name in given if name in _OLD):
        value = found.pop(old)
        if value is None:
            continue  # Modal's "not given"
        name, change = _OLD[old]
        both = name in given and given[name] is not None
        if both and old not in _ADDS and change(where, value, None) != given[name]:
            raise InvalidError(
                f"{where}: {old}= is the old name of {name}=, and both are given. "
                f"Fix: remove {old}="
            )
        start = found.get(name)
        found[name] = change(where, value, getattr(before, name) if start is None else start)
        _warn(old)
    return found


def old_concurrency(target: T, options: Mapping[str, Any]) -> tuple[T, dict[str, Any]]:
    """Return a class or function, ``@concurrent`` as an old option says, and the other options."""
    given = {name: value for name, value in options.items() if name != "allow_concurrent_inputs"}
    count = options.get("allow_concurrent_inputs")
    if count is None:
        return target, given
    _warn("allow_concurrent_inputs")
    # True was a count, too: one input at once.
    return concurrent(max_inputs=int(count) if count is True else count)(target), given


Change = Callable[[str, Any, Any], Any]


def _same(where: str, value: Any, start: Any) -> Any:
    return value


def _count(where: str, value: Any, start: Any) -> Any:
    return int(value) if isinstance(value, bool) else value  # keep_warm=True was one container


def _single_use(where: str, value: Any, start: Any) -> bool:
    if value != 1:
        raise InvalidError(
            f"{where}: max_inputs={value!r} was a number of inputs after which a container exits; "
            "here it can only be 1. Fix: write single_use_containers=True, or remove it"
        )
    return True


def _one_secret(where: str, value: Any, start: Any) -> Any:
    return [*(start or ()), value]


def _volumes(where: str, value: Any, start: Any) -> Any:
    if not isinstance(value, Mapping):
        raise InvalidError(
            f"{where}: network_file_systems= is a mapping of paths to volumes. "
            "Fix: write volumes={'/data': Volume.from_name('data')}"
        )
    return {**(start or {}), **value}


def _mounts(where: str, value: Any, start: Any) -> Any:
    from lifecycle_magic.images.image import Image
    from lifecycle_magic.images.mount import Mount

    if not isinstance(value, list | tuple):
        raise InvalidError(f"{where}: mounts= is a list of Mount objects, not {value!r:.60}")
    image = start or Image.debian_slim()
    for mount in value:
        if not isinstance(mount, Mount):
            raise InvalidError(f"{where}: mounts= is a list of Mount objects, not {mount!r:.60}")
        image = mount.added_to(image)
    return image


def _warn(old: str) -> None:
    # The lists of Modal's names are a tenth of what %load_ext would import otherwise.
    from lifecycle_magic.modal_api.table import old_spelling

    old_spelling("options", f"{old}=")


_OLD: dict[str, tuple[str, Change]] = {
    "keep_warm": ("min_containers", _count),
    "concurrency_limit": ("max_containers", _same),
    "container_idle_timeout": ("scaledown_window", _same),
    "max_inputs": ("single_use_containers", _single_use),
    "secret": ("secrets", _one_secret),
    "network_file_systems": ("volumes", _volumes),
    "shared_volumes": ("volumes", _volumes),
    "mounts": ("image", _mounts),
}
_ADDS = ("secret", "network_file_systems", "shared_volumes", "mounts")
"""Old options that add to the current one."""
