"""``lifecycle-magic swarm registry``: a registry for a swarm that has none."""

from __future__ import annotations

import argparse
import contextlib
import os

from lifecycle_magic.engines.swarm.registry import VARIABLE
from lifecycle_magic.engines.swarm.registry_service import IMAGE, PORT

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``swarm`` to its parser."""
    parser.set_defaults(do=run)
    actions = parser.add_subparsers(dest="action", metavar="registry", required=True)
    summary = "start a registry in the swarm, which gives the nodes the images of classes"
    registry = actions.add_parser("registry", help=summary, description=summary)
    registry.add_argument(
        "--engine",
        default=os.environ.get("LIFECYCLE_MAGIC_ENGINE") or "swarm",
        help="the swarm, as in engine= (default: LIFECYCLE_MAGIC_ENGINE, otherwise swarm)",
    )
    registry.add_argument("--image", default=IMAGE, help=f"the registry's image (default: {IMAGE})")
    registry.add_argument(
        "--port", type=int, default=PORT, help=f"the port of the nodes (default: {PORT})"
    )
    registry.add_argument(
        "--one-node",
        action="store_true",
        help="listen on the manager alone, for swarms without Docker's routing mesh",
    )
    registry.add_argument(
        "--timeout", type=float, default=300.0, help="longest wait in seconds (default: 300)"
    )
    registry.add_argument(
        "--remove", action="store_true", help="remove the service; its images stay in its volume"
    )
    registry.set_defaults(parser=registry)


def run(given: argparse.Namespace) -> int:
    """Start or remove the registry, and print how to use it. Raises `EngineError`."""
    from lifecycle_magic.engines.choose import swarm_engine

    with contextlib.closing(swarm_engine(given.engine)) as engine:
        engine.check()
        if given.remove:
            engine.stop_registry()
            print("removed the registry; its images stay in its volume")
            return 0
        address = engine.start_registry(
            given.image, given.port, one_node=given.one_node, timeout=given.timeout
        )
    trusted = (
        f'\nEvery node has to trust it: "insecure-registries": ["{address}"] in daemon.json.'
        if given.one_node
        else ""
    )
    print(
        "The registry runs. It asks for no password: everybody who reaches port "
        f"{given.port} of a node can read and write images.{trusted}\n"
        f"\n    export {VARIABLE}={address}"
    )
    return 0
