"""The environment variables that show a process some GPUs and hide the others."""

from __future__ import annotations

from collections.abc import Sequence

from lifecycle_magic.gpus.device import Gpu

__all__ = ["variables"]


def variables(gpus: Sequence[Gpu], *, has_amd: bool = False) -> dict[str, str]:
    """Return the variables for a process that may use ``gpus`` and no others.

    Without any it sees none, as in a container. ``has_amd``: the machine has devices of AMD.

    >>> variables([Gpu("GPU-3a", 1)]), variables([])
    ({'CUDA_VISIBLE_DEVICES': 'GPU-3a'}, {'CUDA_VISIBLE_DEVICES': ''})
    """
    nvidia = [gpu.id for gpu in gpus if gpu.vendor == "nvidia"]
    amd = [gpu.id for gpu in gpus if gpu.vendor == "amd"]
    found = {"CUDA_VISIBLE_DEVICES": ",".join(nvidia)}
    if amd:
        # HIP reads CUDA's variable too, and counts only what ROCR_VISIBLE_DEVICES shows.
        numbers = ",".join(map(str, range(len(amd))))
        found |= {"ROCR_VISIBLE_DEVICES": ",".join(amd), "HIP_VISIBLE_DEVICES": numbers}
        if not nvidia:
            found["CUDA_VISIBLE_DEVICES"] = numbers
    elif has_amd:
        found |= {"ROCR_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "-1"}
    return found
