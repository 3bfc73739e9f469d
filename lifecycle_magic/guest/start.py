"""The start of a container: the handshake with the kernel, and the fork of the worker.

The first process becomes the supervisor, its child the worker.
"""

from __future__ import annotations

import functools
import os
import sys

from lifecycle_magic.guest import end_report, memory, signals
from lifecycle_magic.guest.json_lines import encode_line, write_all
from lifecycle_magic.guest.pipes import Pipes
from lifecycle_magic.guest.supervisor import Supervisor
from lifecycle_magic.wire.descriptors import make_room
from lifecycle_magic.wire.frames import Channel
from lifecycle_magic.wire.hello import CONTROL, DATA, MEMORY, BootFile, dial, introduce
from lifecycle_magic.wire.shared import Shared


def main(run: str) -> int:
    """Start and supervise the container whose run folder is ``run``. Return the exit code."""
    blocked = signals.block()
    boot = BootFile.read_and_delete(os.path.join(run, "boot.json"))
    try:
        make_room(boot.channels)
        control = introduce(dial(boot.address), boot.token, CONTROL)
        data = [
            introduce(dial(boot.address), boot.token, DATA, slot) for slot in range(boot.channels)
        ]
        if boot.address.startswith("unix:"):  # descriptors pass over no other socket
            for slot, channel in enumerate(data):
                side = introduce(dial(boot.address), boot.token, MEMORY, slot)
                channel.shared = Shared(side.sock)
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
        os._exit(run_worker(control, data, pipes, run, blocked))
    try:
        os.setpgid(worker, worker)
    except OSError:
        pass  # the child did it first, or has exited
    pipes.close_worker_ends()
    for channel in data:
        if channel.shared is not None:
            channel.shared.close()
    return Supervisor(boot, run, control, data, worker, pipes).run()


def run_worker(
    control: Channel, data: list[Channel], pipes: Pipes, run: str, blocked: signals.Mask
) -> int:
    """Run the worker in the forked child, and return 0 only if it ran to its end.

    Signals stay blocked until the worker handles them: a signal during its imports would end it.
    """
    try:
        os.setpgid(0, 0)
        control.close()
        pipes.close_supervisor_ends()
        # The system kills the worker first when memory runs out: the supervisor has to report it.
        memory.prefer_this_process()
        from lifecycle_magic.guest import worker

        ready = functools.partial(signals.unblock, blocked)
        return worker.main(data, pipes, run, ready)
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.__stderr__)
        return 70  # EX_SOFTWARE of sysexits(3): a fault of this package
    finally:
        from lifecycle_magic.guest import interpreter_end

        interpreter_end.run(
            lambda names: write_all(pipes.notes_w, encode_line(note="waiting", names=names))
        )
