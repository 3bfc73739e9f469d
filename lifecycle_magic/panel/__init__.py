"""What runs, as people see it: facts at one moment, as text, as HTML, and live.

``lifecycle_magic.panel`` is this package and also the public function that returns the live panel;
so the package can be called. The function itself is `lifecycle_magic.panel.widget.panel`.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifecycle_magic.panel.widget import Panel


class _CallablePackage(types.ModuleType):
    """The type of this package; Python lets a module change its own, see "Customizing module
    attribute access" in its reference.
    """

    def __call__(self) -> Panel:
        from lifecycle_magic.panel.widget import panel

        return panel()


sys.modules[__name__].__class__ = _CallablePackage
