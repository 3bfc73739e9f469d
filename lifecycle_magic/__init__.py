"""Container lifecycle hooks for notebook classes, on your own machine.

    %load_ext lifecycle_magic

The names below are Modal's, so that ``import lifecycle_magic as modal`` runs code written for
it. Each is imported when it is first asked for: loading the extension stays quick, and inside a
container, where this package exists too, a class that only uses the decorators imports only
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "App": "app",
    "Cls": "remote",
    "FunctionCall": "calling.function_call",
    "Image": "image",
    "Retries": "options",
    "Secret": "secret",
    "Volume": "volume",
    "asgi_app": "endpoints",
    "batched": "hooks",
    "build": "hooks",
    "concurrent": "hooks",
    "enter": "hooks",
    "exception": "",
    "exit": "hooks",
    "fastapi_endpoint": "endpoints",
    "gather": "calling.function_call",
    "is_local": "hooks",
    "method": "hooks",
    "panel": "",
    "parameter": "hooks",
    "web_endpoint": "endpoints",
    "web_server": "endpoints",
    "wsgi_app": "endpoints",
}

__all__ = ["__version__", *sorted(_HOME), "load_ipython_extension", "unload_ipython_extension"]

if TYPE_CHECKING:
    from lifecycle_magic import exception as exception
    from lifecycle_magic.app import App as App
    from lifecycle_magic.calling.function_call import FunctionCall as FunctionCall
    from lifecycle_magic.calling.function_call import gather as gather
    from lifecycle_magic.endpoints import asgi_app as asgi_app
    from lifecycle_magic.endpoints import fastapi_endpoint as fastapi_endpoint
    from lifecycle_magic.endpoints import web_endpoint as web_endpoint
    from lifecycle_magic.endpoints import web_server as web_server
    from lifecycle_magic.endpoints import wsgi_app as wsgi_app
    from lifecycle_magic.hooks import batched as batched
    from lifecycle_magic.hooks import build as build
    from lifecycle_magic.hooks import concurrent as concurrent
    from lifecycle_magic.hooks import enter as enter
    from lifecycle_magic.hooks import exit as exit
    from lifecycle_magic.hooks import is_local as is_local
    from lifecycle_magic.hooks import method as method
    from lifecycle_magic.hooks import parameter as parameter
    from lifecycle_magic.image import Image as Image
    from lifecycle_magic.options import Retries as Retries
    from lifecycle_magic.panel.widget import panel as panel
    from lifecycle_magic.remote import Cls as Cls
    from lifecycle_magic.secret import Secret as Secret
    from lifecycle_magic.volume import Volume as Volume


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = _HOME[name]
    module = import_module(f"{__name__}.{home or name}")
    value = getattr(module, name) if home else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext lifecycle_magic``: register the magics and open the session."""
    from lifecycle_magic import magic

    magic.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext lifecycle_magic``: end every container, each with its ``exit``."""
    from lifecycle_magic import magic

    magic.unload(shell)
