"""Talking to a Docker engine: clients for many threads, and its errors as ours.

``docker`` and ``requests`` take longer to import than the whole extension may, so everything
here imports them when it is called.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle_magic import full
from lifecycle_magic.exception import EngineError, EngineUnavailable

if TYPE_CHECKING:
    import docker.errors
    import requests
    from docker import APIClient

_DEFAULT_HOST = "unix:///var/run/docker.sock"

# What engines say, and what to do about it. The first that is found counts.
_MENDS = (
    (
        r"executable file not found|exec: \"python3\"",
        "the image has no python3 on its path, and the guest needs one of the kernel's version: "
        "use Image.debian_slim(), or a base image with Python",
    ),
    (r"no such image", "run the cell again to build it"),
    (
        r"bind source path does not exist",
        "the engine does not see this machine's files: it must run on the same machine, and where "
        "this kernel is itself in a container, the state folder (LIFECYCLE_MAGIC_STATE) must have "
        "the same path outside",
    ),
    (
        r"could not select device driver|nvidia-container",
        "the engine can't hand out GPUs: install the NVIDIA Container Toolkit and restart the "
        "engine, or leave gpu= out",
    ),
    (r"[Mm]inimum memory limit", "give it more with memory= (MiB)"),
)


def docker_host() -> str:
    """Where the engine is looked for: ``DOCKER_HOST``, or Docker's default socket."""
    return os.environ.get("DOCKER_HOST") or _DEFAULT_HOST


class Clients:
    """Clients of one engine, each used by one thread at a time.

    ``docker.APIClient`` is a ``requests.Session``, which does not promise to be safe between
    threads; so a thread takes one out and puts it back. As many are made as are ever in use at
    once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[APIClient] = []
        self._version: str | None = None

    @contextlib.contextmanager
    def use(self, doing: str) -> Iterator[APIClient]:
        """A client for the block, with the block's failures of ``docker`` as ours.

        ``doing`` says what is being done, as in "start the container". Leaving the block ends
        its streams: what they still had the engine do is cancelled.
        """
        with translated(doing):
            import docker.errors

            with self._lock:
                client = self._idle.pop() if self._idle else None
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
                    with self._lock:
                        self._idle.append(client)

    def _connect(self) -> APIClient:
        import docker
        from docker.utils import kwargs_from_env

        _knock()
        # "auto" costs a round trip, so only the first asks which version is spoken.
        client = docker.APIClient(version=self._version or "auto", **kwargs_from_env())
        self._version = client.api_version
        return client

    def close(self) -> None:
        """Close what is idle. The object can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise failures of ``docker`` in the block as `EngineUnavailable` or `EngineError`."""
    import docker.errors
    import requests.exceptions
    import urllib3.exceptions

    try:
        yield
    except docker.errors.APIError as error:
        raise EngineError(explain(doing, said(error))) from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
        raise EngineError(
            f"the engine at {docker_host()} did not {doing} in time: it may be overloaded; "
            "docker ps tells whether it answers"
        ) from None
    except (
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        docker.errors.DockerException,
    ) as error:
        raise unavailable(str(error)) from None


def said(error: docker.errors.APIError) -> str:
    """The engine's own words."""
    return str(error.explanation or error).strip()


def explain(doing: str, words: str) -> str:
    """A message of what failed, the engine's own words, and the mend where it is known."""
    if full.is_full(words):
        return f"the engine could not {doing}: {words}. Mend: {full.DOCKER}"
    for pattern, mend in _MENDS:
        if re.search(pattern, words, re.IGNORECASE):
            return f"the engine could not {doing}: {words}. Mend: {mend}"
    return f"the engine could not {doing}: {words}"


def unavailable(why: str) -> EngineUnavailable:
    """Nothing answers where `docker_host` says."""
    return EngineUnavailable(f"no Docker engine answers at {docker_host()}: {why}")


def _knock() -> None:
    """Look whether something listens on the engine's Unix socket, for a clear word if not."""
    host = docker_host()
    if not host.startswith("unix://"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(host.removeprefix("unix://"))
        except PermissionError:
            raise unavailable(
                "this user may not use the socket: add the user to its group (usually docker) and "
                "log in again, or use a rootless engine and set DOCKER_HOST to its socket"
            ) from None
        except OSError as error:
            raise unavailable(
                f"{error.strerror or error}: start the engine, or set DOCKER_HOST to its address "
                "(docker context ls shows it)"
            ) from None
