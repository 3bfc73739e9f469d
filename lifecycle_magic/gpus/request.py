"""The devices that ``gpu=`` asks for: a number, a model, ids, or a share of one device's memory.

The forms are Modal's (``"A100"``, ``"A100-80GB:2"``, ``"any"``, a list of alternatives) and those
of ``docker run --gpus`` (a count, ``"all"``, ``"device=0,2"``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lifecycle_magic.gpus.device import Gpu

__all__ = ["GpuRequest", "read"]

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+!-]*\Z")
_SIZE = re.compile(r"(\d+)GB\Z")
_SAME_MODELS = {"A10": "A10G", "A10G": "A10"}
"""Modal's A10 is a card that reports itself as A10G."""


@dataclass(frozen=True)
class GpuRequest:
    """One alternative of ``gpu=``.

    ``count`` None asks for all devices. ``model`` is empty for any model. ``ids`` names devices by
    index or UUID. ``memory`` (MiB) asks for a share of one device.
    """

    written: str
    count: int | None = 1
    model: str = ""
    ids: tuple[str, ...] = ()
    memory: int | None = None

    def accepts(self, gpu: Gpu) -> bool:
        """Return whether the request may be served by this device."""
        if self.ids and not any(is_named(gpu, one) for one in self.ids):
            return False
        if self.memory is not None and gpu.memory is not None and gpu.memory < self.memory:
            return False
        return not self.model or is_model(gpu, self.model)

    def __str__(self) -> str:
        share = f", gpu_memory={self.memory}" if self.memory is not None else ""
        return f"gpu={self.written}{share}"


def read(value: Any, memory: int | None = None) -> tuple[GpuRequest, ...]:
    """Return the alternatives that ``gpu=value`` names, the preferred one first.

    ``memory`` is ``gpu_memory=``. Raises `ValueError` that says what the value has to be.

    >>> [(one.model, one.count) for one in read(["H100:2", "A100-80GB", 1])]
    [('H100', 2), ('A100-80GB', 1), ('', 1)]
    """
    if value is None or value is False:
        return () if memory is None else (GpuRequest("'any'", memory=memory),)
    several = isinstance(value, (list, tuple))
    alternatives = tuple(_one(one, memory) for one in (value if several else [value]))
    if not alternatives:
        raise ValueError("must name at least one alternative")
    return alternatives


def _one(value: Any, memory: int | None) -> GpuRequest:
    value = "any" if value is True else value  # as Modal had it once
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return _checked(GpuRequest(str(value), value, memory=memory))
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a count from 1 up, or a name such as 'any' or 'A100:2'")
    text = value.strip()
    named = text.partition("device=")[2]
    if named:
        ids = tuple(dict.fromkeys(one.strip() for one in named.split(",") if one.strip()))
        if not ids:
            raise ValueError("must name devices: 'device=0,2'")
        return _checked(GpuRequest(repr(text), len(ids), ids=ids, memory=memory))
    if text.lower() == "all":
        return _checked(GpuRequest("'all'", None, memory=memory))
    model, colon, number = text.partition(":")
    if colon and not (number.isascii() and number.isdecimal() and int(number) > 0):
        raise ValueError("must have a count from 1 up after the colon, as 'A100:2'")
    count = int(number) if colon else 1
    if model.isascii() and model.isdecimal() and not colon:
        count, model = int(model), "any"
        if count < 1:
            raise ValueError("must be a count from 1 up")
    if not _MODEL.match(model):
        raise ValueError("must be a count from 1 up, or a name such as 'any' or 'A100:2'")
    model = "" if model.lower() == "any" else model
    return _checked(GpuRequest(repr(text), count, model, memory=memory))


def _checked(request: GpuRequest) -> GpuRequest:
    if request.memory is not None and request.count != 1:
        raise ValueError(
            "asks for several devices, and gpu_memory= is a share of one device. Fix: omit one of "
            "both"
        )
    return request


def is_named(gpu: Gpu, written: str) -> bool:
    """Return whether a user who writes ``written`` means this GPU: its index, its UUID or the
    beginning of its UUID.
    """
    if written.isdecimal():
        return gpu.index == int(written)
    return bool(written) and gpu.id.lower().startswith(written.lower())


def is_model(gpu: Gpu, model: str) -> bool:
    """Return whether a GPU is of the model that a user names.

    A trailing ``!`` or ``+`` (Modal's "exactly" and "or better") changes nothing.

    >>> card = Gpu("GPU-3a", 0, "NVIDIA A100-SXM4-80GB", 81920)
    >>> is_model(card, "a100"), is_model(card, "A100-80GB"), is_model(card, "A100-40GB")
    (True, True, False)
    """
    names = _words(gpu.name)
    for word in _words(model):
        size = _SIZE.match(word)
        if size and gpu.memory is not None:
            # An "80GB" card has 79 to 80 GiB, a "40GB" one 39 to 45.
            if not 0.85 <= gpu.memory / (int(size[1]) * 1024) <= 1.15:
                return False
        elif not _is_written(word, names) and not _is_written(_SAME_MODELS.get(word, ""), names):
            return False
    return True


def _words(text: str) -> list[str]:
    return [one for one in re.split(r"[^A-Z0-9]+", text.upper()) if one]


def _is_written(word: str, names: Sequence[str]) -> bool:
    """Return whether ``word`` is one of the ``names``, or some of them in a row: RTX4090."""
    return bool(word) and any(
        "".join(names[first:last]) == word
        for first in range(len(names))
        for last in range(first + 1, len(names) + 1)
    )
