"""A backend of matplotlib whose ``plt.show()`` shows the open figures in the cell, and closes them.

It is the backend of containers where neither ``MPLBACKEND`` nor the user's code chooses another.
"""

from __future__ import annotations

from typing import Any

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase as FigureManager
from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas

from lifecycle_magic.guest.rich_output import display

__all__ = ["FigureCanvas", "FigureManager", "show"]


def show(*_: Any, **__: Any) -> None:
    """Display every open figure, in the order of their numbers, and close all of them."""
    managers = sorted(Gcf.get_all_fig_managers(), key=lambda one: one.num)
    try:
        for manager in managers:
            display(manager.canvas.figure)
    finally:
        Gcf.destroy_all()
