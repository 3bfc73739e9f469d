"""The start of a container: the handshake with the kernel, and the fork of the worker.

The first process becomes the supervisor, its child the worker.
"""

from __future__ import annotations

import functools
import os
import sys

from lifecycle_magic.guest import end_report, memory, signals
from lifecycle_magic.guest.connecting import Connected, connect
from lifecycle_magic.guest.json_lines import encode_line, write_all
from lifecycle_magic.guest.pipes import Pipes
from lifecycle_magic.guest.supervisor import Supervisor
from lifecycle_magic.wire.hello import BootFile


def main(run: str, lost: int | None = None) -> int:
    """Start and supervise the container whose run folder is ``run``. Return the exit code.

    ``lost`` is a pipe that ends when no kernel can reach the container any more.
    """
    blocked = signals.block()
    boot = BootFile.read_and_delete(os.path.join(run, "boot.json"))
    try:
        connected = connect(boot)
    except (OSError, RuntimeError) as error:
        # No kernel, or a kernel that refuses this container. Nothing was started, nothing to end.
        print(f"lifecycle_magic: could not reach the kernel: {error}", file=sys.stderr)
        return 1
    pipes = Pipes()
    try:
        worker = os.fork()
    except OSError as error:  # a limit on processes
        end_report.write_start_failure(
            run, boot.container, f"its worker could not be forked: {error.strerror}"
        )
        return 71  # EX_OSERR of sysexits(3)
    if worker == 0:
        os._exit(run_worker(connected, pipes, run, blocked))
    try:
        os.setpgid(worker, worker)
    except OSError:
        pass  # the child did it first, or has exited
    pipes.close_worker_ends()
    for channel in connected.data:
        if channel.shared is not None:
            channel.shared.close()
    return Supervisor(boot, run, connected, worker, pipes, lost).run()


def run_worker(connected: Connected, pipes: Pipes, run: str, blocked: signals.Mask) -> int:
    """Run the worker in the forked child, and return 0 only if it ran to its end.

    Signals stay blocked until the worker handles them: a signal during its imports would end it.
    """
    try:
        os.setpgid(0, 0)
        connected.control.close()
        pipes.close_supervisor_ends()
        # The system kills the worker first when memory runs out: the supervisor has to report it.
        memory.prefer_this_process()
        from lifecycle_magic.guest import worker_process

        ready = functools.partial(signals.unblock, blocked)
        return worker_process.main(connected.data, pipes, run, ready)
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.__stderr__)
        return 70  # EX_SOFTWARE of sysexits(3): a fault of this package
    finally:
        from lifecycle_magic.guest import interpreter_end

        interpreter_end.run(
            lambda names: write_all(pipes.notes_w, encode_line(note="waiting", names=names))
        )
