"""Modal's public names that have no counterpart of the same name, and what to write instead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["ABSENT", "ABSENT_OF_APP", "enable_output", "explain"]

ABSENT = {
    "Client": "no client is needed: classes run on your own engine",
    "Cluster": "remove it: each container runs by itself, on this machine",
    "CloudBucketMount": "mount the bucket on this machine, and use Volume.from_path(folder)",
    "Cron": "run the script from your scheduler (cron, systemd): lifecycle-magic run script.py",
    "Environment": "there is one environment: this user on this machine",
    "Mount": "use Image.add_local_dir or Image.add_local_python_source",
    "NetworkFileSystem": "use Volume.from_name(name)",
    "Period": "run the script from your scheduler (cron, systemd): lifecycle-magic run script.py",
    "Probe": "declare a class: it is ready when its enter hooks have returned",
    "Proxy": "set HTTPS_PROXY with env={...}",
    "Sandbox": "declare a class, and run the command with subprocess in a method",
    "SandboxSnapshot": "declare a class with a build hook, which keeps what it makes in the image",
    "SchedulerPlacement": "remove it: containers run on your own machine",
    "Server": "declare a class with @app.cls(), and a method with @web_server(port)",
    "Stub": "App is its new name",
    "Tunnel": "use @web_server(port) and get_web_url()",
    "Workspace": "remove it: there is no account",
    "clustered": "remove it: each container runs by itself, on this machine",
    "forward": "use @web_server(port) and get_web_url()",
    "sessioned": "keep what belongs to a client on self, by a key that the client sends",
    "interact": "write breakpoint() where the method runs in this process: Model().method.local()",
}
"""Names, and what to write instead of them."""


ABSENT_OF_APP = {
    "_experimental_server": "write @app.server(port=...)",
    "asgi": "write @app.function() above @asgi_app()",
    "deploy": "keep it running with: lifecycle-magic deploy script.py",
    "interactive_shell": "write breakpoint() in a method, and call it with .local()",
    "list_objects": "use registered_functions and registered_classes",
    "logs": "lifecycle-magic logs NAME",
    "sandboxes": "declare a class, and run the command with subprocess in a method",
    "set_description": "give the app a name: App(name)",
    "spawn_sandbox": "declare a class, and run the command with subprocess in a method",
    "stats": "lifecycle-magic ps",
    "webhook": "write @app.function() above @fastapi_endpoint()",
    "wsgi": "write @app.function() above @wsgi_app()",
}
"""What an App of Modal has, or had, and what to write instead."""


def explain(name: str) -> str:
    """Return the message for a name that this package does not have."""
    if name in ABSENT:
        return f"Modal has {name}, here there is none. Fix: {ABSENT[name]}"
    return f"module 'lifecycle_magic' has no attribute {name!r}"


@contextlib.contextmanager
def enable_output(show_progress: bool = True) -> Iterator[None]:
    """Do nothing: progress and output of containers are always shown here.

    >>> with enable_output():
    ...     pass
    """
    yield
