"""Options that a swarm can't honour, and nodes that volumes require: pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from lifecycle_magic.engines.base import Honoured, Launch
from lifecycle_magic.engines.swarm.nodes import Node, gpu_reservation, volume_label

__all__ = ["reservations", "review_launch", "volume_constraints"]


def review_launch(launch: Launch, nodes: Sequence[Node], address: str, manager: str) -> Honoured:
    """Return what the swarm can't honour; ``manager`` is the id of the node at ``address``."""
    refused = [
        f"the volume at {one.path} is the folder {one.volume.path} of this machine, and the nodes "
        "of a swarm do not see this machine's files: put the files into the image "
        "(Image.add_local_dir), or use a named volume (Volume.from_name) and fill it with "
        "batch_upload()"
        for one in launch.mounts
        if one.volume.kind == "path"
    ]
    if launch.keep:
        refused.append(
            "keep: the next kernel would have to find the container on any node of the swarm. Fix: "
            "use engine='docker' or engine='process', or omit keep"
        )
    if launch.block_network:
        refused.append(
            "block_network=True: a container of a swarm reaches the kernel by its network. Fix: "
            "use engine='docker' or engine='ssh://user@host', or omit block_network"
        )
    ignored = [_where(one.volume.name, nodes, manager) for one in launch.mounts if one.volume.name]
    largest = max((node.memory for node in nodes), default=0)
    if launch.memory is not None and launch.memory << 20 > largest:
        ignored.append(
            f"memory={launch.memory}: the largest node of the swarm has {largest >> 20} MiB, so "
            "the container waits for a larger one"
        )
    refused += [
        f"{one}: a swarm reserves whole GPUs, and chooses which. Fix: gpu=1, with placement= for "
        "the node"
        for one in launch.gpu[:1]
        if one.ids or one.memory is not None
    ]
    if launch.gpu:
        reserved = gpu_reservation(launch.gpu, nodes)
        if reserved is None:
            refused.append(
                f"{launch.gpu[0]}: no node of the swarm at {address} offers GPUs. Fix: name them "
                'in its daemon.json ("node-generic-resources": ["gpu=GPU-45cbf7b"]), and restart '
                "its engine"
            )
        elif not reserved.is_exact:
            ignored.append(
                f"{launch.gpu[0]}: the nodes call their GPUs {reserved.kind!r}, so the model can't "
                "be chosen"
            )
    return Honoured(tuple(refused), tuple(ignored))


def reservations(launch: Launch) -> str:
    """Return what a launch reserves on its node, in words.

    >>> from pathlib import Path
    >>> reservations(Launch("n", "i", Path(), Path(), {}, cpu=2, memory=512))
    ': 2 cores, 512 MiB'
    """
    parts = [
        f"{launch.cpu:g} cores" if launch.cpu is not None else "",
        f"{launch.memory} MiB" if launch.memory is not None else "",
        str(launch.gpu[0]) if launch.gpu else "",
    ]
    text = ", ".join(part for part in parts if part)
    return f": {text}" if text else ""


def volume_constraints(launch: Launch, nodes: Sequence[Node], manager: str) -> tuple[str, ...]:
    """Return the constraints that bring a container to the node that has its named volumes.

    That is a node with the volume's label, otherwise the manager, where ``volume put`` writes.
    """
    found = []
    for mount in launch.mounts:
        if name := mount.volume.name:
            label = volume_label(name)
            if any(label in node.labels for node in nodes):
                found.append(f"node.labels.{label}==true")
            else:
                found.append(f"node.id=={manager}")
    return tuple(dict.fromkeys(found))


def _where(name: str, nodes: Sequence[Node], manager: str) -> str:
    label = volume_label(name)
    labelled = [node.name for node in nodes if label in node.labels]
    if labelled:
        return f"the volume {name!r} keeps its containers on {', '.join(labelled)} (label {label})"
    here = next((node.name for node in nodes if node.id == manager), manager)
    return (
        f"the volume {name!r} keeps its containers on {here}, which has it: volumes of a swarm "
        f"belong to one node. For another one: docker node update --label-add {label}=true NODE"
    )
