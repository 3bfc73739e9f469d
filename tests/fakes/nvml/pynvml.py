"""A stand-in for ``nvidia-ml-py`` on machines without a GPU: the devices of ``FAKE_GPUS``.

It is put on the path in front of the real one. ``FAKE_GPUS`` is JSON: a list of objects with
``uuid``, ``name``, ``memory`` (MiB), and perhaps ``used`` (MiB), ``load`` (percent) and ``mig``, a
list of such objects.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    pass


def _devices() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(os.environ.get("FAKE_GPUS", "null"))
    if found is None:
        raise NVMLError("Driver Not Loaded")
    return found


def nvmlInit() -> None:
    _devices()


def nvmlShutdown() -> None:
    pass


def nvmlDeviceGetCount() -> int:
    return len(_devices())


def nvmlDeviceGetHandleByIndex(index: int) -> dict[str, Any]:
    return {**_devices()[index], "minor": index}


def nvmlDeviceGetMigMode(handle: dict[str, Any]) -> tuple[int, int]:
    if "mig" not in handle:
        raise NVMLError("Not Supported")
    return (1, 1)


def nvmlDeviceGetMaxMigDeviceCount(handle: dict[str, Any]) -> int:
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(handle: dict[str, Any], index: int) -> dict[str, Any]:
    if index >= len(handle["mig"]):
        raise NVMLError("Not Found")
    return {**handle["mig"][index], "parent": handle}


def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle: dict[str, Any]) -> dict[str, Any]:
    if "parent" not in handle:
        raise NVMLError("Invalid Argument")
    parent: dict[str, Any] = handle["parent"]
    return parent


def nvmlDeviceGetMinorNumber(handle: dict[str, Any]) -> int:
    minor: int = handle["minor"]
    return minor


def nvmlDeviceGetUUID(handle: dict[str, Any]) -> str:
    uuid: str = handle["uuid"]
    return uuid


def nvmlDeviceGetName(handle: dict[str, Any]) -> bytes:
    name: str = handle["name"]
    return name.encode()


def nvmlDeviceGetMemoryInfo(handle: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(total=handle["memory"] << 20, used=handle.get("used", 0) << 20)


def nvmlDeviceGetUtilizationRates(handle: dict[str, Any]) -> SimpleNamespace:
    if "parent" in handle:
        raise NVMLError("Not Supported")
    return SimpleNamespace(gpu=handle.get("load", 0))
