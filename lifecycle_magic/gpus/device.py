"""The record of one GPU, and what is known of its current use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Gpu", "GpuUse"]


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one MIG instance of a GPU.

    ``id`` is its UUID, by which engines and libraries address it, or its index where no UUID is
    known. ``index`` is its number on this machine, ``name`` its model (empty if unknown),
    ``memory`` its size in MiB (None if unknown). ``nodes`` are its own device files.
    """

    id: str
    index: int
    name: str = ""
    memory: int | None = None
    nodes: tuple[str, ...] = ()
    vendor: Literal["nvidia", "amd"] = "nvidia"

    @property
    def label(self) -> str:
        """The GPU as users read it.

        >>> Gpu("GPU-3a", 0, "NVIDIA L4").label
        'GPU 0 (NVIDIA L4)'
        """
        return f"GPU {self.index} ({self.name})" if self.name else f"GPU {self.index}"


@dataclass(frozen=True)
class GpuUse:
    """The use of a GPU by all programs of the machine: bytes of memory, and a load from 0 to 1."""

    memory: int
    total: int
    load: float | None = None
