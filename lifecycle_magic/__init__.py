"""Container lifecycle hooks for notebook classes, on your own machine.

    %load_ext lifecycle_magic

The names below are Modal's, so that ``import lifecycle_magic as modal`` runs code written for it.
Each name is imported on first use. So the extension loads quickly, and inside a container, where
this package exists too, a class that only uses the decorators imports only them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULE_OF = {
    "App": "app",
    "Cls": "handles.cls",
    "Dict": "callers.dict_handle",
    "FilePatternMatcher": "images.file_patterns",
    "Error": "exception",
    "Function": "handles.function",
    "FunctionCall": "callers.function_call",
    "Image": "images.image",
    "Queue": "callers.queue_handle",
    "Retries": "spec.retries",
    "Secret": "secret",
    "Volume": "volume",
    "asgi_app": "decorators.endpoints",
    "batched": "decorators.hooks",
    "build": "decorators.hooks",
    "concurrent": "decorators.hooks",
    "current_function_call_id": "decorators.current_call",
    "current_input_id": "decorators.current_call",
    "enable_output": "ui.output",
    "enter": "decorators.hooks",
    "exception": "",
    "exit": "decorators.hooks",
    "fastapi_endpoint": "decorators.endpoints",
    "gather": "callers.function_call",
    "interact": "modal_api.output",
    "is_local": "decorators.travel",
    "method": "decorators.hooks",
    "panel": "ui.panel.widget",
    "parameter": "decorators.parameters",
    "web_endpoint": "decorators.endpoints",
    "web_server": "decorators.endpoints",
    "wsgi_app": "decorators.endpoints",
}

_IN_CONTAINERS = {
    "Cls": "named.handles",
    "Function": "named.handles",
    "enable_output": "modal_api.output",
    "panel": "modal_api.output",
}
"""Where a container finds a name whose other module needs what only the kernel has."""

_OLD = {
    "Conda": "images.old_images",
    "DebianSlim": "images.old_images",
    "DockerfileImage": "images.old_images",
    "DockerhubImage": "images.old_images",
    "Mount": "images.mount",
    "NetworkFileSystem": "network_file_system",
    "Server": "named.handles",
    "SharedVolume": "network_file_system",
    "Stub": "app.stub",
}
"""What code written for Modal may name and nobody needs here: most of it is of former times."""

__all__ = ["__version__", *sorted(_MODULE_OF), "load_ipython_extension", "unload_ipython_extension"]

if TYPE_CHECKING:
    from lifecycle_magic import exception as exception
    from lifecycle_magic.app import App as App
    from lifecycle_magic.callers.dict_handle import Dict as Dict
    from lifecycle_magic.callers.function_call import FunctionCall as FunctionCall
    from lifecycle_magic.callers.function_call import gather as gather
    from lifecycle_magic.callers.queue_handle import Queue as Queue
    from lifecycle_magic.decorators.current_call import (
        current_function_call_id as current_function_call_id,
    )
    from lifecycle_magic.decorators.current_call import current_input_id as current_input_id
    from lifecycle_magic.decorators.endpoints import asgi_app as asgi_app
    from lifecycle_magic.decorators.endpoints import fastapi_endpoint as fastapi_endpoint
    from lifecycle_magic.decorators.endpoints import web_endpoint as web_endpoint
    from lifecycle_magic.decorators.endpoints import web_server as web_server
    from lifecycle_magic.decorators.endpoints import wsgi_app as wsgi_app
    from lifecycle_magic.decorators.hooks import batched as batched
    from lifecycle_magic.decorators.hooks import build as build
    from lifecycle_magic.decorators.hooks import concurrent as concurrent
    from lifecycle_magic.decorators.hooks import enter as enter
    from lifecycle_magic.decorators.hooks import exit as exit
    from lifecycle_magic.decorators.hooks import method as method
    from lifecycle_magic.decorators.parameters import parameter as parameter
    from lifecycle_magic.decorators.travel import is_local as is_local
    from lifecycle_magic.exception import Error as Error
    from lifecycle_magic.handles.cls import Cls as Cls
    from lifecycle_magic.handles.function import Function as Function
    from lifecycle_magic.images.file_patterns import FilePatternMatcher as FilePatternMatcher
    from lifecycle_magic.images.image import Image as Image
    from lifecycle_magic.modal_api.output import interact as interact
    from lifecycle_magic.secret import Secret as Secret
    from lifecycle_magic.spec.retries import Retries as Retries
    from lifecycle_magic.ui.output import enable_output as enable_output
    from lifecycle_magic.ui.panel.widget import panel as panel
    from lifecycle_magic.volume import Volume as Volume


class _ModalModules:
    """A finder of modules that Modal has below its package: `lifecycle_magic.modal_modules`."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        """Return how to make a module that no other finder has found, None if it is not Modal's."""
        if not name.startswith(f"{__name__}."):
            return None
        from lifecycle_magic.modal_modules import find_spec

        return find_spec(name)


if not any(getattr(one, "__name__", "") == "_ModalModules" for one in sys.meta_path):
    sys.meta_path.append(_ModalModules)  # the last one: it only gets names that would fail


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _OLD:
        return getattr(import_module(f"{__name__}.{_OLD[name]}"), name)
    if name not in _MODULE_OF:
        from lifecycle_magic.modal_modules import MODULES

        if name in MODULES:
            return import_module(f"{__name__}.{name}")
        return _refused(name)
    home = _MODULE_OF[name]
    if name in _IN_CONTAINERS and not import_module(f"{__name__}.decorators.travel").is_local():
        home = _IN_CONTAINERS[name]
    module = import_module(f"{__name__}.{home or name}")
    value = getattr(module, name) if home else module
    globals()[name] = value
    return value


def _refused(name: str) -> Any:
    """Return what stands for a refused name of Modal's. Raises `AttributeError` for any other."""
    if name[:1] != "_":  # those are asked for by Python and by tools
        from lifecycle_magic.modal_api.table import explain

        if message := explain("modal", name):
            from lifecycle_magic.modal_api.refused_names import refused_name

            made = globals()[name] = refused_name(__name__, name, message)
            return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """Register the magics and open the session: ``%load_ext lifecycle_magic``."""
    from lifecycle_magic.ui.notebook import magic

    magic.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Stop every container, each with its ``exit`` hooks: ``%unload_ext lifecycle_magic``."""
    from lifecycle_magic.ui.notebook import magic

    magic.unload(shell)
