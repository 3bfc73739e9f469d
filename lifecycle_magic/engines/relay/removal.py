"""The removal of containers and services once they have ended, by requests that block."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from lifecycle_magic.engines.relay.engine_http import RequestError

__all__ = ["Ask", "delete_service", "remove_container", "remove_service"]

Ask = Callable[..., Any]
"""Asks the engine: ``ask(method, path, timeout=60.0)``. Raises `RequestError`."""

POLL_SECONDS = 0.25

_ENDED = frozenset({"complete", "failed", "shutdown", "rejected", "orphaned", "remove"})
"""The states of a task that it does not leave."""


def remove_container(
    ask: Ask, container: str, deadline: float, give_up: Callable[[], bool]
) -> None:
    """Remove a container once it has ended, also where the engine restarts meanwhile."""
    while not give_up() and (left := deadline - time.monotonic()) > 0:
        try:
            ask("POST", f"/containers/{container}/wait", timeout=left)
            ask("DELETE", f"/containers/{container}?v=1")
            return
        except RequestError as error:
            if error.status == 404:
                return
            time.sleep(min(1.0, left))


def remove_service(ask: Ask, service: str, deadline: float, give_up: Callable[[], bool]) -> None:
    """Remove a service with its secret once its tasks have ended, at the deadline anyway."""
    filters = urllib.parse.quote(json.dumps({"service": {service: True}}))
    while not give_up() and time.monotonic() < deadline:
        try:
            tasks = ask("GET", f"/tasks?filters={filters}")
            is_over = all(_has_ended(ask, one) for one in tasks or ())
        except RequestError as error:
            if error.status == 404:
                break
            time.sleep(1.0)
            continue
        if is_over:
            break
        time.sleep(POLL_SECONDS)
    if not give_up():
        delete_service(ask, service)


def _has_ended(ask: Ask, task: dict[str, Any]) -> bool:
    """Return whether a task has ended, or is on a node that swarm takes for lost."""
    if task["Status"]["State"] in _ENDED:
        return True
    if task.get("DesiredState") not in ("shutdown", "remove") or not task.get("NodeID"):
        return False
    node = ask("GET", f"/nodes/{task['NodeID']}")
    return bool(node["Status"]["State"] != "ready")


def delete_service(ask: Ask, service: str) -> None:
    """Delete a service and its secret. A later session deletes what can't be deleted now."""
    for kind in ("services", "secrets"):
        for _ in range(3):
            try:
                ask("DELETE", f"/{kind}/{service}")
                break
            except RequestError as error:
                if error.status == 404:
                    break
                time.sleep(0.5)  # a manager that was replaced, or a secret that is still in use
