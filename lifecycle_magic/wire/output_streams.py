"""Names of streams in OUTPUT frames, next to ``stdout`` and ``stderr``."""

from __future__ import annotations

DISPLAY = "display"
"""The text of this stream is JSON: an object with ``do`` and what belongs to it.

``display`` and ``update`` have ``data`` and ``metadata``, each by type, and ``id``, a string or
null. ``clear`` has ``wait``, a bool.
"""
