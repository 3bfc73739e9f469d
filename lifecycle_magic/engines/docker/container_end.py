"""The end of a container on a Docker engine: how it ended, and its removal.

Containers are made without the engine's AutoRemove. An engine before Docker 24 removes such a
container when it restarts, with SIGKILL, and the ``exit`` of a container that lived through the
restart would be lost (moby issue 46308). So the kernel that saw a container end removes it. If the
kernel died first, the next session's sweep does.
"""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.base import Ended
from lifecycle_magic.engines.docker import run_folder
from lifecycle_magic.engines.docker.api import discard_container
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.exception import EngineError

if TYPE_CHECKING:
    from docker import APIClient

LAST_SECONDS = 5.0
"""Seconds to wait for a container that is just ending."""

_EVENTS = ("oom", "die", "destroy", "died", "remove")
"""The last two are what Podman calls them in a filter; in its answer, a ``died`` is a ``die``."""

_REMOVERS = 4  # threads: the engine takes 20 to 200 ms for each container


def ended(clients: Clients, container: str) -> Ended | None:
    """Return how a container ended, or None if it still runs or nothing is known of it.

    Wait up to `LAST_SECONDS` for one that is just ending. Of a container that was removed
    meanwhile, the engine's memory of its last 256 events is asked.
    """
    import docker.errors

    with clients.use("find out how a container ended") as api:
        try:
            _await_end(api, container)
            state = api.inspect_container(container)["State"]
        except docker.errors.NotFound:
            return _from_events(api, container)
    if state["Status"] not in ("exited", "dead"):
        return None
    return Ended(int(state["ExitCode"]), bool(state.get("OOMKilled")))


def clear_run_folder(clients: Clients, container: str, folders: list[str]) -> None:
    """Remove ``folders`` from the run folder of a container that has ended or is just ending."""
    import docker.errors

    with clients.use("remove what a container left in its run folder") as api:
        try:
            _await_end(api, container)
            run_folder.replace_folders(api, container, folders)
        except docker.errors.NotFound:
            return  # somebody removed the container


class Remover:
    """Removes ended containers in the background. Its threads end with what they have to do."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def add(self, container: str) -> None:
        """Remove ``container`` once it has ended. Return at once."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_REMOVERS, "lifecycle-remove")
            threads = self._threads
        try:
            threads.submit(self._remove, container)
        except RuntimeError:  # this process is ending and starts no thread any more
            self._remove(container)

    def close(self) -> None:
        """Wait until everything is removed. The object can be used again."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()

    def _remove(self, container: str) -> None:
        # Its supervisor has reported, and needs some milliseconds to close what is open.
        with contextlib.suppress(EngineError), self._clients.use("await a container's end") as api:
            _await_end(api, container)
        # What an engine that is down keeps is removed by a later sweep.
        discard_container(self._clients, container)


def _await_end(api: APIClient, container: str) -> None:
    """Wait up to `LAST_SECONDS` for the end. Raises ``NotFound`` for a container that is gone."""
    import docker.errors
    import requests.exceptions

    try:
        api.wait(container, timeout=LAST_SECONDS)  # type: ignore[arg-type]  # seconds
    except docker.errors.NotFound:
        raise
    except requests.exceptions.ReadTimeout:
        return
    except requests.exceptions.ConnectionError as error:
        # urllib3's timeout while it reads a body comes as this.
        if "timed out" not in str(error).lower():
            raise


def _from_events(api: APIClient, container: str) -> Ended | None:
    code: int | None = None
    oom = over = False
    events: Any = api.events(
        since=1,
        until=int(time.time()) + 1,  # all has been said; the engine counts whole seconds
        filters={"container": container, "event": [*_EVENTS]},
        decode=True,
    )
    for event in events:
        action = event.get("Action")
        if action == "oom":
            oom = True
        elif action == "die":
            over = True
            facts = event["Actor"]["Attributes"]
            code = int(facts.get("exitCode") or facts.get("containerExitCode") or 0)
        elif action in ("destroy", "remove"):
            over = True
            break
    return Ended(code, oom) if over else None
