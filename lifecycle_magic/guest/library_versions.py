"""Releases of the libraries that values were created with, compared with those of the image.

An application object, such as a FastAPI created at the top of a notebook, travels as the attributes
that its library gave it. Another release of the library has other attributes, which causes errors
at the first request, if any. So the releases are compared before the object is created.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from types import MappingProxyType

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.wire.rerun_names import UseOther

__all__ = ["check", "installed"]


def installed(distribution: str) -> str | None:
    """Return the release of a distribution that is installed here; None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check(
    needed: dict[str, str],
    names: tuple[str, ...],
    known: Mapping[str, str] = MappingProxyType({}),
    otherwise: bytes | None = None,
) -> dict[str, str]:
    """Return ``needed`` if this image has these releases, apart from patch versions.

    ``needed`` and ``known`` map distributions to releases, ``names`` are the objects that were
    created with them. Raises `UseOther` with ``otherwise``, the stream for other releases, if it is
    given. Otherwise raises `InvalidError`, which names both releases, for those that are needed.
    """
    found = {one: installed(one) for one in {**needed, **known}}
    if otherwise is not None and _differing(found, {**needed, **known}):
        raise UseOther(otherwise)
    differing = _differing(found, needed)
    if differing:
        kernel = ", ".join(f"{one} {needed[one]}" for one in differing)
        image = ", ".join(f"{one} {found[one]}" if found[one] else f"no {one}" for one in differing)
        pins = ", ".join(f'"{one}=={release}"' for one, release in needed.items())
        raise InvalidError(
            f"{' and '.join(names)} was made in the kernel with {kernel}, and the image has "
            f"{image}: an application does not travel between releases. Fix: make it inside of "
            f"the method that returns it, or give the image the same with .pip_install({pins})"
        )
    return needed


def _differing(found: dict[str, str | None], wanted: dict[str, str]) -> list[str]:
    return [one for one in wanted if _major_minor(found[one]) != _major_minor(wanted[one])]


def _major_minor(release: str | None) -> tuple[str, ...]:
    return tuple((release or "").split(".")[:2])
