"""``display``, ``clear_output`` and ``plt.show()`` of a method, shown in the calling cell.

These are the functions of IPython with the same names, for a process without an IPython. What they
show travels as JSON in the place of printed text, so that it keeps its order with what is printed.
Where no cell waits, its text goes to the log.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from lifecycle_magic.guest import forks, print_buffer
from lifecycle_magic.guest.output import lane_here

__all__ = ["DisplayHandle", "clear_output", "display", "publish_display_data", "update_display"]

_METHODS = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "application/pdf": "_repr_pdf_",
    "text/latex": "_repr_latex_",
    "application/json": "_repr_json_",
    "application/javascript": "_repr_javascript_",
}
"""The methods by which an object describes itself, by the type of what they return."""

_NO_METHOD = "_ipython_canary_method_should_not_exist_"
_WIDGET = "application/vnd.jupyter.widget-view+json"

Bundle = dict[str, Any]


def display(
    *objs: Any,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    metadata: Bundle | None = None,
    transient: Bundle | None = None,
    display_id: str | bool | None = None,
    raw: bool = False,
    clear: bool = False,
    update: bool = False,
    **_: Any,
) -> DisplayHandle | None:
    """Show objects in the cell, as ``IPython.display.display`` does."""
    transient = dict(transient or {})
    if display_id:
        transient["display_id"] = os.urandom(16).hex() if display_id is True else display_id
    if update and "display_id" not in transient:
        raise TypeError("display_id required for update_display")
    if not objs and display_id:
        objs, raw = ({},), True
    if clear:
        clear_output(wait=True)
    for one in objs:
        data, about = (one, {}) if raw else described(one, include, exclude)
        if data or raw:
            about = {**about, **(metadata or {})}
            publish_display_data(data, about, transient=transient, update=update)
    return DisplayHandle(transient["display_id"]) if display_id else None


def update_display(obj: Any, *, display_id: str, **kwargs: Any) -> None:
    """Show an object in the place of what was displayed with this id."""
    display(obj, display_id=display_id, update=True, **kwargs)


def clear_output(wait: bool = False) -> None:
    """Clear the output of the cell, with ``wait`` not before the next output."""
    _send({"do": "clear", "wait": bool(wait)}, "")


def publish_display_data(
    data: Bundle,
    metadata: Bundle | None = None,
    *_: Any,
    transient: Bundle | None = None,
    update: bool = False,
    **__: Any,
) -> None:
    """Show data by type, such as ``{"text/html": "<b>1</b>"}``. Raises `TypeError` for a widget."""
    if _WIDGET in data:
        raise TypeError(
            f"{data.get('text/plain', 'a widget')} is a widget of the container's process, which "
            "the notebook can't reach. Fix: create the widget in a cell, and set it to what the "
            "method returns or yields"
        )
    message: Bundle = {
        "do": "update" if update else "display",
        "data": data,
        "metadata": metadata or {},
    }
    message["id"] = (transient or {}).get("display_id")
    plain = str(data.get("text/plain", ""))
    _send(message, plain + "\n" if plain else "")


class DisplayHandle:
    """Something displayed that can be changed, as IPython's class of this name."""

    def __init__(self, display_id: str | None = None) -> None:
        self.display_id = os.urandom(16).hex() if display_id is None else display_id

    def __repr__(self) -> str:
        return f"<DisplayHandle display_id={self.display_id}>"

    def display(self, obj: Any, **kwargs: Any) -> None:
        """Display an object once more, with the same id."""
        display(obj, display_id=self.display_id, **kwargs)

    def update(self, obj: Any, **kwargs: Any) -> None:
        """Show an object in the place of what was displayed."""
        update_display(obj, display_id=self.display_id, **kwargs)


def described(
    obj: Any, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None
) -> tuple[Bundle, Bundle]:
    """Return the data of an object by type, and metadata. Nothing if it has displayed itself."""
    data: Bundle = {}
    metadata: Bundle = {}
    # An object that has every attribute has none of these methods, and a class has its instances'.
    if not isinstance(obj, type) and not callable(getattr(obj, _NO_METHOD, None)):
        if callable(own := getattr(obj, "_ipython_display_", None)):
            own()
            return {}, {}
        whole = _called(obj, "_repr_mimebundle_", include=include, exclude=exclude)
        found, about = whole if isinstance(whole, tuple) else (whole, {})
        data.update(found or {})
        metadata.update(about or {})
        for kind, method in _METHODS.items():
            if kind not in data and (value := _called(obj, method)) is not None:
                value, about = value if isinstance(value, tuple) else (value, None)
                data[kind] = value
                if about:
                    metadata[kind] = about
        if "image/png" not in data and (picture := _figure(obj)) is not None:
            data["image/png"] = picture
    if "text/plain" not in data:
        data["text/plain"] = _plain(obj)
    chosen = set(data if include is None else include) - set(exclude or ())
    return {kind: value for kind, value in data.items() if kind in chosen}, metadata


def _called(obj: Any, name: str, **kwargs: Any) -> Any:
    """Return what a method of the object describes, None without it. An error is printed."""
    method = getattr(obj, name, None)
    if not callable(method):
        return None
    try:
        return method(**kwargs)
    except NotImplementedError:
        return None
    except Exception:
        traceback.print_exc()
        return None


def _figure(obj: Any) -> bytes | None:
    """Return the picture of a figure of matplotlib, None for any other object."""
    module = sys.modules.get("matplotlib.figure")
    if module is None or not isinstance(obj, module.Figure):
        return None
    import io

    file = io.BytesIO()
    obj.savefig(file, format="png", bbox_inches="tight", dpi="figure")
    return file.getvalue()


def _plain(obj: Any) -> str:
    pretty = sys.modules.get("IPython.lib.pretty")
    return str(pretty.pretty(obj)) if pretty is not None else repr(obj)


def _send(message: Bundle, plain: str) -> None:
    prints = print_buffer.of_worker
    if forks.in_child or prints is None:
        sys.stdout.write(plain)
        return
    lane = lane_here()
    if lane is not None:
        lane.flush(is_over=False)  # the line before it, if it has no end
    prints.add(lane, "stdout", plain, json.dumps(message, default=_encoded))


def _encoded(value: Any) -> Any:
    """Return what JSON has for bytes, numbers of numpy and other values."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        import base64

        return base64.b64encode(value).decode()
    number: Callable[[], Any] | None = getattr(value, "item", None)
    return number() if callable(number) else str(value)
