"""A backend of matplotlib whose ``plt.show()`` shows the open figures in the cell, and closes them.

It is the backend of containers where neither ``MPLBACKEND`` nor the user's code chooses another. In
a notebook it also shows and closes the figures that a call has made and left open when it ends, as
the notebook does at the end of a cell.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import Any

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lifecycle_magic.guest import print_buffer
from lifecycle_magic.guest.output import lane_here
from lifecycle_magic.guest.rich_output import display

__all__ = ["FigureCanvas", "FigureManager", "show"]


class FigureManager(FigureManagerBase):
    """The manager of an open figure, which its call shows at its end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lane, prints = lane_here(), print_buffer.of_worker
        if lane is None or prints is None or not prints.is_for_notebook:
            return
        if lane.has_reader and lane.target.current:  # a call, and not ``enter``
            lane.at_end.append(self._show_if_open)

    def _show_if_open(self) -> None:
        if self not in Gcf.get_all_fig_managers():
            return
        try:
            _show_and_close([self])
        except Exception:  # a figure that can't be drawn; the call itself has succeeded
            traceback.print_exc()


class FigureCanvas(FigureCanvasAgg):
    """A canvas whose figures `FigureManager` manages."""

    manager_class = FigureManager


def show(*_: Any, **__: Any) -> None:
    """Display every open figure, in the order of their numbers, and close all of them."""
    _show_and_close(sorted(Gcf.get_all_fig_managers(), key=lambda one: one.num))


def _show_and_close(managers: Iterable[FigureManagerBase]) -> None:
    managers = list(managers)
    try:
        for manager in managers:
            display(manager.canvas.figure)
    finally:
        for manager in managers:
            Gcf.destroy(manager)
