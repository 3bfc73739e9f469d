"""A Jupyter server extension that delays the server's end until exit hooks have run.

The package installs it, and ``lifecycle_magic.json`` enables it. On shutdown a server ends its
kernels and then itself; containers run their ``exit`` hooks after that. If the server is process 1
of a container (JupyterHub, a devcontainer), its end would kill them, so the server waits for them.
"""

from __future__ import annotations

import asyncio
import functools
import os
from pathlib import Path
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.extension.application import ExtensionApp
from traitlets import Float

from lifecycle_magic import __version__
from lifecycle_magic.container import kept
from lifecycle_magic.container.record import FILE_PATTERN
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host.paths import matching, state_root
from lifecycle_magic.ui.cli.drain import drain

__all__ = ["LifecycleMagic"]

_INIT_SYSTEMS = ("systemd", "init", "runit", "s6-svscan", "openrc-init", "launchd")


class LifecycleMagic(ExtensionApp):
    """The server extension. It serves nothing; it only changes the shutdown."""

    name = "lifecycle_magic"
    version = __version__
    description = "End the server after the exit hooks of its kernels' containers"

    drain_timeout = Float(
        30.0, help="Seconds to wait for exit hooks when the server ends; 0 does not wait."
    ).tag(config=True)

    async def stop_extension(self) -> None:
        """Shut the kernels down, then wait until their containers have exited.

        Raises nothing: a server that an extension raises to never ends.
        """
        try:
            await self._drain()
        except EngineError as error:
            self.log.warning("%s", error)
        except Exception:
            self.log.exception("could not wait for exit hooks")

    async def _drain(self) -> None:
        root = state_root()
        if self.drain_timeout <= 0 or not matching(root / "run", f"*/{FILE_PATTERN}"):
            return
        assert self.serverapp is not None
        await ensure_async(self.serverapp.kernel_manager.shutdown_all())
        if is_main_process_of_container():
            await asyncio.get_running_loop().run_in_executor(None, _stop_kept, root)
        wait = functools.partial(drain, root, self.drain_timeout, living=False, say=self.log.info)
        drained = await asyncio.get_running_loop().run_in_executor(None, wait)
        for line in drained.left:
            self.log.warning("%s after %g s", line, self.drain_timeout)


def is_main_process_of_container() -> bool:
    """Return whether every other process here ends with this one: no init system goes on."""
    if os.getpid() != 1 and os.getppid() != 1:
        return False
    try:
        return Path("/proc/1/comm").read_text().strip() not in _INIT_SYSTEMS
    except OSError:
        return False


def _stop_kept(root: Path) -> None:
    """Have the processes end, with their ``exit``, that wait for another kernel: none will come."""
    found = [one.record for one in kept.find_all(root) if one.record.engine == "process"]
    kept.stop_all(found, "the Jupyter server of this container has ended")


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": "lifecycle_magic.ui.notebook.server_extension", "app": LifecycleMagic}]
