"""Modal's modules by their paths: ``from lifecycle_magic.functions import FunctionCall``.

Each is made when it is first imported. It has those of Modal's names that exist here, and an error
that says what to write instead for each other one. Modules that have the same path in both packages
(``app``, ``exception``, ``secret``, ``volume``) need nothing of this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from lifecycle_magic.decorators.http_server import http_server
from lifecycle_magic.modal_names import ABSENT, explain

__all__ = ["MODULES", "find_spec"]

PACKAGE = __name__.partition(".")[0]
_MODELS = ("A10", "A10G", "A100", "B200", "H100", "H200", "L4", "L40S", "T4")

MODULES: dict[str, tuple[str, ...]] = {
    "billing": (),
    "call_graph": (),
    "client": (),
    "cloud_bucket_mount": (),
    "cls": ("Cls", "parameter"),
    "cluster": (),
    "config": (),
    "container_process": (),
    "dict": ("Dict",),
    "environments": (),
    "experimental": ("http_server",),
    "file_pattern_matcher": ("FilePatternMatcher",),
    "functions": ("Function", "FunctionCall", "gather"),
    "gpu": (),
    "image": ("Image",),
    "io_streams": (),
    "mount": (),
    "network_file_system": (),
    "object": (),
    "output": ("enable_output",),
    "parallel_map": (),
    "partial_function": (
        *("asgi_app", "batched", "build", "concurrent", "enter", "exit", "fastapi_endpoint"),
        *("method", "web_endpoint", "web_server", "wsgi_app"),
    ),
    "proxy": (),
    "queue": ("Queue",),
    "retries": ("Retries",),
    "runner": (),
    "running_app": (),
    "sandbox": (),
    "schedule": (),
    "scheduler_placement": (),
    "server": (),
    "serving": (),
    "snapshot": (),
    "stream_type": (),
    "token_flow": (),
    "types": (),
    "workspace": (),
}
"""Modal's modules, and which of their names exist here."""

_INSTEAD = {
    "billing": "remove it: nothing is billed",
    "call_graph": "lifecycle-magic ps lists what runs",
    "config": "set options in the program, or by LIFECYCLE_MAGIC_... variables",
    "io_streams": "run the command with subprocess in a method, and read its pipes",
    "object": "use the class itself: App, Image, Volume, ...",
    "parallel_map": "call .map, .starmap or .for_each of a method",
    "runner": "write with app.run(): ..., or lifecycle-magic run script.py",
    "running_app": "write with app.run(): ...",
    "serving": "lifecycle-magic serve script.py",
    "snapshot": "declare a class with a build hook, which keeps what it makes in the image",
    "stream_type": "run the command with subprocess in a method, and read its pipes",
    "token_flow": "remove it: there is no account",
    "types": "use the values themselves",
}
_NAMES_INSTEAD = {
    "experimental": {
        "clustered": "remove it: each container runs by itself, on this machine",
        "get_cluster_info": "remove it: each container runs by itself, on this machine",
        "flash_forward": "use @web_server(port) and get_web_url()",
        "stop_fetching_inputs": "set single_use_containers=True in @app.cls()",
        "set_local_input_concurrency": "set @concurrent(max_inputs=...) above the class",
        "get_local_input_concurrency": "set @concurrent(max_inputs=...) above the class",
    },
}


def find_spec(name: str) -> ModuleSpec | None:
    """Return how to make the module ``name``, None if Modal has none of this name.

    Raises `ImportError` for a name in a ``from`` import that exists in Modal only: Python asks for
    a module of that name last.
    """
    own = name.removeprefix(f"{PACKAGE}.")
    module, _, inner = own.partition(".")
    if inner and module in MODULES:
        raise ImportError(_explain(module, inner))
    if own in MODULES:
        spec = ModuleSpec(name, _Loader(), origin=__file__, is_package=True)
        spec.has_location = True  # so that the module counts as installed, not as the user's own
        return spec
    if own in ABSENT:
        raise ImportError(explain(own))
    return None


class _Loader(Loader):
    """The loader of one of Modal's modules."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return None: the usual kind of module is right."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the names that exist here."""
        name = module.__name__.rpartition(".")[2]
        package = import_module(PACKAGE)
        module.__doc__ = f"The names of ``modal.{name}`` that exist here."
        found: dict[str, Any] = {
            one: getattr(package, one) for one in MODULES[name] if hasattr(package, one)
        }
        if name == "experimental":
            found = {"http_server": http_server}
        if name == "gpu":
            found = {model: _gpu(model) for model in _MODELS} | {"Any": _gpu("any")}
        vars(module).update(found)
        vars(module)["__all__"] = sorted(found)
        vars(module)["__getattr__"] = lambda missing: _refuse(name, missing)


def _refuse(module: str, name: str) -> Any:
    raise AttributeError(_explain(module, name))


def _explain(module: str, name: str) -> str:
    """Return the message for a name that a module of Modal's has, or might have."""
    if name.startswith("__"):
        return f"module '{PACKAGE}.{module}' has no attribute {name!r}"
    fix = _NAMES_INSTEAD.get(module, {}).get(name) or ABSENT.get(name) or _INSTEAD.get(module)
    there = sys.modules.get(f"{PACKAGE}.{module}")
    names = ", ".join(getattr(there, "__all__", ()))
    if fix is None:
        fix = f"it has {names}" if names else "remove it: it is for Modal's cloud"
    return f"Modal has {module}.{name}, here there is none. Fix: {fix}"


def _gpu(model: str) -> Callable[..., str]:
    """Return what ``modal.gpu.A100`` was: a function that makes a GPU, here its string."""

    def gpu(*, count: int = 1, size: str | None = None, memory: int | None = None) -> str:
        name = model if size is None else f"{model}-{size}"
        name = name if memory in (None, 0) else f"{model}-{memory}GB"
        return name if count == 1 else f"{name}:{count}"

    gpu.__name__ = gpu.__qualname__ = model
    gpu.__doc__ = f'Return a string for ``gpu=``: write ``gpu="{model}"`` or ``"{model}:2"``.'
    return gpu
