"""The magics ``%%lifecycle_cls`` and ``%lifecycle``: parse the line, run it, display the result.

`lifecycle_magic.ui.notebook.cell` runs cells, `lifecycle_magic.ui.commands` the subcommands. Only
what every use needs is imported at the top, so that loading the extension is fast.
"""

from __future__ import annotations

import sys
from typing import Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from lifecycle_magic.callers.internal_frames import hide_in_ipython
from lifecycle_magic.host import keep_record, paths
from lifecycle_magic.session import session, shortages
from lifecycle_magic.ui import command_table
from lifecycle_magic.ui.notebook import options_line, stale_names
from lifecycle_magic.ui.notebook.run_cell import CellSyntaxError, execute, show_without_plumbing

__all__ = ["LifecycleMagics", "load", "unload"]


def load(shell: Any) -> None:
    """Register the magics and open the session."""
    shell.register_magics(LifecycleMagics(shell))
    shell.set_hook("complete_command", _complete, str_key="%lifecycle")
    hide_in_ipython(shell)
    _install_debugger(shell)
    _watch_names(shell)
    session.current()
    for warning in (*paths.warnings(), *shortages.warnings()):
        print(f"lifecycle_magic: {warning}", file=sys.stderr)
    if keep_record.find_all(paths.state_root()):
        from lifecycle_magic.ui import kept_containers

        print(kept_containers.waiting(paths.state_root()), end="")
        kept_containers.prepare(session.current())


def unload(shell: Any) -> None:
    """Remove the magics, stop all containers, wait for the exit hooks, and print how each ended."""
    from lifecycle_magic.ui import commands

    shell.magics_manager.magics["cell"].pop("lifecycle_cls", None)
    shell.magics_manager.magics["line"].pop("lifecycle", None)
    vars(shell).pop("debugger", None)
    _stop_watching(shell)
    current = session.opened()
    ended = session.close("%unload_ext lifecycle_magic")
    if current is not None and ended:
        print(commands.describe_ended(current, ended))


@magics_class
class LifecycleMagics(Magics):
    """The magics ``%%lifecycle_cls`` and ``%lifecycle``."""

    @cell_magic
    def lifecycle_cls(self, line: str, cell: str) -> None:
        """Run the lifecycle classes of this cell in containers; the full text is set below."""
        try:
            self._lifecycle_cls(line, cell)
        except SyntaxError as error:
            raise CellSyntaxError.passed_on(self.shell, error) from None
        except (Exception, KeyboardInterrupt) as error:
            show_without_plumbing(self.shell, error)
            raise

    def _lifecycle_cls(self, line: str, text: str) -> None:
        from lifecycle_magic.ui.notebook import cell

        shell: Any = self.shell
        request = options_line.parse(line)
        cell.run(
            lambda declare: execute(shell, text, declare),
            shell.user_ns,
            request,
            lambda spec, service: _card(shell, spec, service),
        )

    @line_magic
    def lifecycle(self, line: str) -> None:
        """Show and control running classes; the full text is set below."""
        from lifecycle_magic.ui import commands

        try:
            if not line.strip() and hasattr(self.shell, "kernel"):
                from lifecycle_magic.ui.panel.widget import panel

                _display(panel())
                return
            if line.split() == ["doctor"]:  # it has to work even if no session can be opened
                shown: Any = commands.examined()
            else:
                shown = commands.run(line, session.current(), self.shell)
            if shown == "":
                pass  # the command has shown what there is
            elif isinstance(shown, str):
                print(shown.rstrip("\n"))
            else:
                _display(shown)
        except (Exception, KeyboardInterrupt) as error:
            show_without_plumbing(self.shell, error)
            raise


LifecycleMagics.lifecycle_cls.__doc__ = f"""Run the lifecycle classes of this cell in containers.

::

  %%lifecycle_cls [options]
  class Model:
      @lm.enter()
      def load(self): ...

      @lm.method()
      def predict(self, x): ...

For each class of the cell that has lifecycle decorators, an image is built and one container is
started. The class name becomes a handle: call ``Model().predict.remote(x)``. Running the cell again
does as little as possible: nothing if nothing changed; new code in the live instance if only
methods changed; otherwise new containers are started, then the previous ones run their ``exit``
hooks. A cell that fails changes nothing.

{options_line.describe()}

``$name`` and ``{{expression}}`` in the line are replaced by their values in the notebook.
"""


LifecycleMagics.lifecycle.__doc__ = f"""Show and control running classes.

Without a command, ``%lifecycle`` opens the live panel; in a terminal it prints a table.

{command_table.describe()}
"""


def _watch_names(shell: Any) -> None:
    """Look after every cell for names that running classes use as they were."""
    _stop_watching(shell)
    names = stale_names.StaleNames(shell.user_ns)
    shell.events.register("post_run_cell", names.look)


def _stop_watching(shell: Any) -> None:
    for callback in list(shell.events.callbacks["post_run_cell"]):
        if isinstance(getattr(callback, "__self__", None), stale_names.StaleNames):
            shell.events.unregister("post_run_cell", callback)


def _install_debugger(shell: Any) -> None:
    """Have ``%debug`` open the frames of a remote exception in its container."""
    plain = shell.debugger

    def debugger(force: bool = False) -> None:
        """Open the debugger on the last exception, in its container if that keeps the frames."""
        from lifecycle_magic.ui import post_mortem

        if not ((force or shell.call_pdb) and post_mortem.debug_last()):
            plain(force)

    shell.debugger = debugger


def _display(shown: Any) -> None:
    from IPython.display import display

    display(shown)  # type: ignore[no-untyped-call]


def _complete(shell: Any, event: Any) -> list[str]:
    from lifecycle_magic.ui import commands

    return commands.complete(event.line, session.opened())


def _card(shell: Any, spec: Any, service: Any) -> Any:
    from lifecycle_magic.ui.notebook.card import Card, NotebookOutput, TerminalOutput

    return Card(spec, service, NotebookOutput() if hasattr(shell, "kernel") else TerminalOutput())
