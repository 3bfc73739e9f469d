"""AMD's GPUs, as the kernel's driver lists them below ``/sys``: no library of AMD's is needed.

ROCm addresses a device by ``GPU-`` and the sixteen hexadecimal digits of its unique id.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from lifecycle_magic.gpus.device import Gpu, GpuUse

__all__ = ["find", "uses"]

_NODES = Path("/sys/class/kfd/kfd/topology/nodes")
_DRM = Path("/sys/class/drm")


def find(nodes: Path = _NODES, drm: Path = _DRM) -> tuple[Gpu, ...]:
    """Return the devices that ROCm can use, in its own order."""
    found: list[Gpu] = []
    for id, minor in _devices(nodes):
        device = drm / f"renderD{minor}" / "device"
        total = _number(device / "mem_info_vram_total")
        name = _line(device / "product_name") or "AMD GPU"
        memory = None if total is None else total >> 20
        node = f"/dev/dri/renderD{minor}"
        found.append(Gpu(id, len(found), name, memory, (node,), "amd"))
    return tuple(found)


def uses(nodes: Path = _NODES, drm: Path = _DRM) -> dict[str, GpuUse]:
    """Return the current use of each device by its id."""
    found = {}
    for id, minor in _devices(nodes):
        device = drm / f"renderD{minor}" / "device"
        used, total = (_number(device / f"mem_info_vram_{one}") for one in ("used", "total"))
        busy = _number(device / "gpu_busy_percent")
        if used is not None and total is not None:
            found[id] = GpuUse(used, total, None if busy is None else busy / 100)
    return found


def _devices(nodes: Path) -> list[tuple[str, int]]:
    """Return id and number of the render node of each device; processors are nodes as well."""
    found: list[tuple[str, int]] = []
    for folder in sorted(nodes.glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):
            said = dict(re.findall(r"^(\w+) (\d+)$", (folder / "properties").read_text(), re.M))
            if int(said.get("simd_count", 0)) and int(said.get("drm_render_minor", 0)):
                unique = int(said.get("unique_id", 0))
                # Consumer models have no unique id: ROCm takes their number then.
                id = f"GPU-{unique:016x}" if unique else str(len(found))
                found.append((id, int(said["drm_render_minor"])))
    return found


def _number(path: Path) -> int | None:
    text = _line(path)
    return int(text) if text.isdecimal() else None


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
