"""The nodes of a swarm: what each has, and which of them a volume is on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lifecycle_magic.engines.base import LABEL

if TYPE_CHECKING:
    from lifecycle_magic.gpus.request import GpuRequest

__all__ = ["GpuReservation", "Node", "gpu_reservation", "volume_label"]

_NANO = 1e9


@dataclass(frozen=True)
class Node:
    """A node. ``memory`` is bytes; ``kinds`` are its generic resources with their counts."""

    id: str
    name: str
    ready: bool
    cores: int
    memory: int
    kinds: Mapping[str, int]
    labels: Mapping[str, str]
    note: str

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Node:
        """Return a node as in the engine's ``/nodes``."""
        described = answer.get("Description") or {}
        resources = described.get("Resources") or {}
        state = (answer.get("Status") or {}).get("State", "unknown")
        availability = answer["Spec"].get("Availability", "active")
        kinds: dict[str, int] = {}
        for one in resources.get("GenericResources") or ():
            if named := one.get("NamedResourceSpec"):
                kinds[named["Kind"]] = kinds.get(named["Kind"], 0) + 1
            elif counted := one.get("DiscreteResourceSpec"):
                kinds[counted["Kind"]] = kinds.get(counted["Kind"], 0) + counted["Value"]
        return cls(
            id=answer["ID"],
            name=described.get("Hostname") or answer["ID"],
            ready=state == "ready" and availability == "active",
            cores=int(resources.get("NanoCPUs", 0) / _NANO) or 1,
            memory=int(resources.get("MemoryBytes", 0)),
            kinds=kinds,
            labels=answer["Spec"].get("Labels") or {},
            note=state if state != "ready" else availability,
        )


class GpuReservation(NamedTuple):
    """A number of a generic resource, and whether it is the model that was asked for."""

    kind: str
    number: int
    is_exact: bool


def gpu_reservation(requests: Sequence[GpuRequest], nodes: Sequence[Node]) -> GpuReservation | None:
    """Return what to reserve for the first request that the nodes offer by that name.

    None if they offer no GPUs. A request for all of a machine's GPUs reserves as many as the node
    with most of them has.
    """
    offered: dict[str, int] = {}
    for node in nodes:
        for kind, count in node.kinds.items():
            offered[kind] = max(offered.get(kind, 0), count)
    for request in requests:
        for kind, most in sorted(offered.items()):
            if request.model and request.model.lower() in kind.lower():
                return GpuReservation(kind, request.count or most, True)
    for kind, most in sorted(offered.items()):
        if "gpu" in kind.lower() and requests:
            first = requests[0]
            return GpuReservation(kind, first.count or most, not first.model)
    return None


def volume_label(name: str) -> str:
    """Return the label of the nodes that have the volume ``name``."""
    return f"{LABEL}.volume.{name}"
