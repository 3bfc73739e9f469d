"""``%%lifecycle_cls`` and ``%lifecycle``: parse the line, call, show.

What a cell does is in `lifecycle_magic.cell`, what the subcommands do in
`lifecycle_magic.commands`. Only what every use needs is imported here: loading has to be quick.
"""

from __future__ import annotations

from typing import Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from lifecycle_magic import arguments, session
from lifecycle_magic.celltext import CellSyntaxError, execute, show_without_plumbing

__all__ = ["LifecycleMagics", "load", "unload"]


def load(shell: Any) -> None:
    """Register the magics and open the session."""
    shell.register_magics(LifecycleMagics(shell))
    shell.set_hook("complete_command", _complete, str_key="%lifecycle")
    session.current()


def unload(shell: Any) -> None:
    """Remove the magics, end every container, wait for each one's exit, and print how it went."""
    from lifecycle_magic import commands

    shell.magics_manager.magics["cell"].pop("lifecycle_cls", None)
    shell.magics_manager.magics["line"].pop("lifecycle", None)
    current = session.opened()
    going = session.close("%unload_ext lifecycle_magic")
    if current is not None and going:
        print(commands.told_gone(current, going))


@magics_class
class LifecycleMagics(Magics):
    """The two magics."""

    @cell_magic
    def lifecycle_cls(self, line: str, cell: str) -> None:
        """Replaced below: the options are listed from the parser's own table."""
        try:
            self._lifecycle_cls(line, cell)
        except SyntaxError as error:
            raise CellSyntaxError.passed_on(self.shell, error) from None
        except (Exception, KeyboardInterrupt) as error:
            show_without_plumbing(self.shell, error)
            raise

    def _lifecycle_cls(self, line: str, text: str) -> None:
        from lifecycle_magic import cell

        shell: Any = self.shell
        request = arguments.parse(line)
        cell.run(
            lambda: execute(shell, text),
            shell.user_ns,
            request,
            lambda spec, service: _card(shell, spec, service),
        )

    @line_magic
    def lifecycle(self, line: str) -> None:
        """Look after what runs; alone it opens the live panel, or a table in a terminal.

        %lifecycle ps [--all] | logs NAME [-n N] [--build] | stop [NAME] | restart NAME
        %lifecycle history [-n N] | why NAME | doctor | prune [--all] [-y]
        """
        from lifecycle_magic import commands

        try:
            if not line.strip() and hasattr(self.shell, "kernel"):
                from lifecycle_magic.panel.widget import panel

                _display(panel())
                return
            shown = commands.run(line, session.current())
            if isinstance(shown, str):
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

A class of the cell that has lifecycle decorators gets its image built and one warm container, and
its name becomes a handle: ``Model().predict.remote(x)``. Running the cell again does the least that
makes it true: nothing if nothing changed, new code under the live instance if only methods changed,
else new containers first, then the ``exit`` of the former ones. A cell that fails changes nothing.

{arguments.describe()}

``$name`` and ``{{expression}}`` in the line are replaced by what they are in the notebook.
"""


def _display(shown: Any) -> None:
    from IPython.display import display

    display(shown)  # type: ignore[no-untyped-call]


def _complete(shell: Any, event: Any) -> list[str]:
    from lifecycle_magic import commands

    return commands.complete(event.line, session.opened())


def _card(shell: Any, spec: Any, service: Any) -> Any:
    from lifecycle_magic.card import Card, Notebook, Terminal

    return Card(spec, service, Notebook() if hasattr(shell, "kernel") else Terminal())
