"""Connections to a Docker engine for many threads, and the translation of its errors.

``docker`` and ``requests`` take longer to import than the whole extension may, so everything here
imports them when it is called.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lifecycle_magic.engines.docker.address import EngineVersion, Location, connect, version_at
from lifecycle_magic.exception import EngineError, EngineUnavailable, Error
from lifecycle_magic.host import disk_full
from lifecycle_magic.wire import descriptors

if TYPE_CHECKING:
    import docker.errors
    import requests
    from docker import APIClient

_log = logging.getLogger(__name__)

CONNECT_SECONDS = 8.0

MOST_IDLE = 4
"""Clients that are kept, each with a connection to the engine."""

# What engines say, and what to do about it. The first that is found counts.
_FIXES = (
    (
        r"executable file not found|exec: \"python3\"",
        "the image has no python3 on its path, and the guest needs one of the kernel's version: "
        "use Image.debian_slim(), or a base image with Python",
    ),
    (r"no such image", "run the cell again to build it"),
    (
        r"bind source path does not exist",
        "the engine does not see this machine's files: name its address with engine=, as in "
        "engine='unix:///path/to/docker.sock', which needs no shared files; or, where this kernel "
        "is itself in a container, give the state folder (LIFECYCLE_MAGIC_STATE) the same path "
        "outside",
    ),
    (
        r"could not select device driver|nvidia-container",
        "the engine can't hand out GPUs: install the NVIDIA Container Toolkit and restart the "
        "engine, or omit gpu=",
    ),
    (r"[Mm]inimum memory limit", "give it more with memory= (MiB)"),
)


class Clients:
    """Clients of one engine, each used by one thread at a time.

    ``docker.APIClient`` is a ``requests.Session``, which does not promise to be safe between
    threads; so a thread takes one out and puts it back. As many are made as are in use at once,
    and `MOST_IDLE` are kept.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._lock = threading.Lock()
        self._idle: list[tuple[str, APIClient]] = []  # with the URL that it connects to
        self._version: EngineVersion | None = None

    @contextlib.contextmanager
    def use(self, doing: str) -> Iterator[APIClient]:
        """Yield a client, and raise failures of ``docker`` in the block as this package's errors.

        ``doing`` describes the action, as in "start the container". Leaving the block ends its
        streams: an action of the engine that is still running for them is cancelled.
        """
        _log.debug("Docker: %s", doing)
        with translated(doing, self.location):
            import docker.errors

            url = self.location.url
            client = self._take(url)
            if client is None:
                client = self._connect()
            responses: list[requests.Response] = []
            client.hooks["response"] = [lambda response, **_: responses.append(response)]
            try:
                yield client
            except docker.errors.APIError:
                raise  # a complete answer
            except BaseException:
                client.close()
                client = None
                raise
            finally:
                # Else a stream goes on for as long as somebody keeps it, a traceback for one.
                for response in responses:
                    response.close()
                if client is not None:
                    client.hooks["response"] = []
                    self._put_back(url, client)

    def _take(self, url: str) -> APIClient | None:
        """Return an idle client of this URL, and close those of another tunnel than today's."""
        with self._lock:
            others = [client for its, client in self._idle if its != url]
            self._idle = [one for one in self._idle if one[0] == url]
            found = self._idle.pop()[1] if self._idle else None
        for client in others:
            client.close()
        return found

    def _put_back(self, url: str, client: APIClient) -> None:
        with self._lock:
            keep = len(self._idle) < MOST_IDLE
            if keep:
                self._idle.append((url, client))
        if not keep:
            client.close()

    def _connect(self) -> APIClient:
        _knock(self.location)
        # To ask which version is spoken costs a round trip, so only the first does.
        if self._version is None:
            self._version = version_at(self.location)
        return connect(self._version.api, self.location)

    @property
    def version(self) -> EngineVersion:
        """Return a description of the engine. Raises `EngineUnavailable` if nothing does."""
        if self._version is None:
            with self.use("report its version"):
                pass
        assert self._version is not None
        return self._version

    def close(self) -> None:
        """Close what is idle. The object can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, client in idle:
            client.close()


@contextlib.contextmanager
def translated(doing: str, location: Location) -> Iterator[None]:
    """Raise failures of ``docker`` in the block as `EngineUnavailable` or `EngineError`."""
    import docker.errors
    import requests.exceptions
    import urllib3.exceptions

    try:
        yield
    except docker.errors.APIError as error:
        raise EngineError(explain(doing, message_of(error))) from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
        raise EngineError(
            f"the engine at {location.shown} did not {doing} in time; it may be overloaded. "
            "Fix: check that docker ps answers, and try again"
        ) from None
    except (
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        docker.errors.DockerException,
    ) as error:
        if explained := descriptors.explain(str(error)):
            raise EngineError(f"could not {doing}: {explained}") from None
        raise unavailable(location.explained(str(error)), location) from None
    except OSError as error:
        if isinstance(error, Error) or not (explained := descriptors.explain(error)):
            raise
        raise EngineError(f"could not {doing}: {explained}") from None


def message_of(error: docker.errors.APIError) -> str:
    """Return the engine's own message."""
    return str(error.explanation or error).strip()


def explain(doing: str, words: str) -> str:
    """Return a message of what failed, the engine's own message, and the fix where it is known."""
    if disk_full.is_full(words):
        return f"the engine could not {doing}: {words}. Fix: {disk_full.DOCKER_FIX}"
    for pattern, fix in _FIXES:
        if re.search(pattern, words, re.IGNORECASE):
            return f"the engine could not {doing}: {words}. Fix: {fix}"
    return f"the engine could not {doing}: {words}"


def unavailable(why: str, location: Location) -> EngineUnavailable:
    """Return the error for an engine that does not answer at ``location``."""
    return EngineUnavailable(f"no Docker engine answers at {location.shown}: {why}")


def _knock(location: Location) -> None:
    """Raise a clear error if no process listens on the engine's socket.

    A machine that does not answer is given up after `CONNECT_SECONDS`.
    """
    host = location.url
    where = urlsplit(host)
    if where.scheme in ("tcp", "https") and where.hostname and where.port:
        try:
            socket.create_connection((where.hostname, where.port), CONNECT_SECONDS).close()
        except OSError as error:
            why = error.strerror or str(error)
            raise unavailable(
                f"{why}. Fix: check the address, and that the machine is on and reachable", location
            ) from None
    if not host.startswith("unix://"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(host.removeprefix("unix://"))
        except PermissionError:
            raise unavailable(
                "this user may not use the socket: add the user to its group (usually docker) and "
                "log in again, or use a rootless engine and set DOCKER_HOST to its socket",
                location,
            ) from None
        except OSError as error:
            raise unavailable(
                f"{error.strerror or error}: start the engine, or set DOCKER_HOST to its address "
                "(docker context ls shows it)",
                location,
            ) from None
