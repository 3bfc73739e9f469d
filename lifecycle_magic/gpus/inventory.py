"""The GPUs that this machine has, and what is used of them.

NVIDIA's devices are read through NVML, by the package ``nvidia-ml-py`` (the extra ``gpu``), or else
from what the driver shows below ``/proc``, which knows neither memory nor load. AMD's are read from
what the kernel shows below ``/sys``. Nothing is kept open between two calls.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lifecycle_magic.gpus import amd
from lifecycle_magic.gpus.device import Gpu, GpuUse
from lifecycle_magic.gpus.request import is_named

__all__ = ["control_nodes", "find", "has_nvml", "uses", "visible"]

_DRIVER = Path("/proc/driver/nvidia/gpus")


KEPT_SECONDS = 30.0
"""How long a list of the devices counts. A driver that nobody uses takes seconds to answer."""

_known: tuple[float, tuple[Gpu, ...]] | None = None


def find() -> tuple[Gpu, ...]:
    """Return every GPU of this machine; one that is divided into MIG instances as those."""
    global _known
    known, now = _known, time.monotonic()
    if known is None or now - known[0] >= KEPT_SECONDS:
        _known = known = now, _find()
    return known[1]


def _find() -> tuple[Gpu, ...]:
    nvidia = _by_nvml()
    if nvidia is None:
        nvidia = _by_driver(_DRIVER)
    others = amd.find()
    return (*nvidia, *(replace(one, index=len(nvidia) + n) for n, one in enumerate(others)))


def visible(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Return the GPUs that the kernel itself may use, as ``CUDA_VISIBLE_DEVICES`` limits it.

    A batch system such as Slurm sets the variable. An empty one limits nothing: users empty it to
    keep the kernel off the GPUs that their classes need.
    """
    written = [one.strip() for one in environment.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    named = [one for one in written if one and one != "-1"]
    if not named:
        return tuple(gpus)
    return tuple(
        gpu for gpu in gpus if gpu.vendor != "nvidia" or any(is_named(gpu, one) for one in named)
    )


def uses() -> dict[str, GpuUse]:
    """Return the current use of each GPU by its id; nothing for those of which it is unknown."""
    found = amd.uses()
    with contextlib.suppress(Exception), _nvml() as nvml:
        for handle in _handles(nvml):
            with contextlib.suppress(nvml.NVMLError):
                found[_text(nvml.nvmlDeviceGetUUID(handle))] = _use(nvml, handle)
    return found


def has_nvml() -> bool:
    """Return whether NVML answers."""
    return _by_nvml() is not None


def _by_nvml() -> tuple[Gpu, ...] | None:
    """Return what NVML lists; None without the package, or without a driver that answers."""
    try:
        with _nvml() as nvml:
            return tuple(_gpu(nvml, handle, index) for index, handle in enumerate(_handles(nvml)))
    except ImportError:
        return None
    except Exception as error:  # NVMLError, and what an unfit library raises
        if type(error).__module__.partition(".")[0] != "pynvml" and not isinstance(error, OSError):
            raise
        return None


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    # Not kept open: a handle of NVML does not survive a fork, and a kernel that holds one keeps
    # the driver from being reloaded.
    nvml: Any = importlib.import_module("pynvml")
    nvml.nvmlInit()
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _handles(nvml: Any) -> Iterator[Any]:
    """Yield the devices that work can be given to: of a divided GPU its MIG instances."""
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        instances = list(_mig(nvml, handle))
        yield from instances or [handle]


def _mig(nvml: Any, handle: Any) -> Iterator[Any]:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle) if current else 0
    except nvml.NVMLError:  # a model that can't be divided
        return
    for number in range(most):
        with contextlib.suppress(nvml.NVMLError):  # a place without an instance
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)


def _gpu(nvml: Any, handle: Any, index: int) -> Gpu:
    nodes: tuple[str, ...] = ()
    whole = handle
    with contextlib.suppress(nvml.NVMLError, AttributeError):
        whole = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    with contextlib.suppress(nvml.NVMLError):
        nodes = (f"/dev/nvidia{nvml.nvmlDeviceGetMinorNumber(whole)}",)
    memory: int | None = None
    with contextlib.suppress(nvml.NVMLError):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle).total >> 20
    id, name = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
    return Gpu(id, index, name, memory, nodes)


def _use(nvml: Any, handle: Any) -> GpuUse:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    load: float | None = None
    with contextlib.suppress(nvml.NVMLError):  # MIG instances have none
        load = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    return GpuUse(memory.used, memory.total, load)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _by_driver(folder: Path) -> tuple[Gpu, ...]:
    """Return what NVIDIA's driver lists by itself, in the order of the device files."""
    found = []
    for path in sorted(folder.glob("*/information")):
        with contextlib.suppress(OSError):
            said = dict(
                re.findall(r"^([^:\n]+):[ \t]*(.*?)[ \t]*$", path.read_text(), re.MULTILINE)
            )
            minor = said.get("Device Minor", "")
            if minor.isdecimal():
                # A driver that hides the UUID writes question marks.
                id = said.get("GPU UUID", "")
                known = id if id.startswith("GPU-") and "?" not in id else minor
                node = f"/dev/nvidia{minor}"
                found.append(Gpu(known, int(minor), said.get("Model", ""), None, (node,)))
    return tuple(sorted(found, key=lambda one: one.index))


def control_nodes(gpus: Sequence[Gpu], dev: Path = Path("/dev")) -> tuple[str, ...]:
    """Return the device files that the users of any of these GPUs need besides its own."""
    patterns: list[str] = []
    if any(one.vendor == "nvidia" for one in gpus):
        patterns += ["nvidiactl", "nvidia-uvm*", "nvidia-modeset", "nvidia-caps", "dxg"]
    if any(one.vendor == "amd" for one in gpus):
        patterns += ["kfd"]
    found = sorted(path for pattern in patterns for path in dev.glob(pattern))
    return tuple(os.fspath(path) for path in found)
