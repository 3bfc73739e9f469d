"""``lifecycle-magic shell``: a shell or a command in a container with a class's image.

The container has the image of the class (with what its build hooks wrote), its volumes, secrets
and environment. Its ``enter`` and ``exit`` do not run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import sys
import termios
import threading
import tty
import types
from collections.abc import Callable, Iterator
from typing import Any

from lifecycle_magic.app import App
from lifecycle_magic.callers.queue_handle import Queue
from lifecycle_magic.decorators.hooks import method
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.guest.shell import run_command, run_terminal
from lifecycle_magic.images.image import Image
from lifecycle_magic.secret import Secret
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.options import declared
from lifecycle_magic.ui.cli.main_module import load
from lifecycle_magic.ui.cli.run_options import add_module_option
from lifecycle_magic.volume import Volume

__all__ = ["add_arguments", "run"]

_OF_CALLS = (
    *("timeout", "retries", "min_containers", "max_containers", "buffer_containers"),
    *("scaledown_window", "single_use_containers"),
)
"""Options that say nothing of what a container is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``shell`` to its parser."""
    parser.set_defaults(do=run)
    parser.add_argument(
        "script",
        nargs="?",
        metavar="script.py[::name]",
        help="name: a class, Class.method or a function (default: a plain container)",
    )
    parser.add_argument("-c", "--cmd", metavar="COMMAND", help="run this instead of a shell")
    add_module_option(parser)
    parser.add_argument("--image", metavar="TAG", help="an image by its name (without a script)")
    parser.add_argument("--add-python", metavar="VERSION", help="add this Python to --image")
    parser.add_argument(
        "--volume", action="append", default=[], metavar="NAME", help="mount it at /mnt/NAME"
    )
    parser.add_argument(
        "--secret", action="append", default=[], metavar="NAME", help="give it this secret"
    )
    parser.add_argument("--cpu", type=float, metavar="CORES", help="cores")
    parser.add_argument("--memory", type=int, metavar="MIB", help="memory limit in MiB")
    parser.add_argument("--gpu", help="a count, 'any', or a name such as 'A100:2'")
    parser.add_argument(
        "--pty",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="a terminal of its own (default: if input and output are terminals)",
    )


def run(given: argparse.Namespace) -> int:
    """Run the shell or command, and return its exit code."""
    from lifecycle_magic.session import session
    from lifecycle_magic.ui.cli.reporter import report

    on_terminal = given.pty
    if on_terminal is None:
        on_terminal = given.cmd is None and sys.stdin.isatty() and sys.stdout.isatty()
    unsubscribe = report(session.current().bus, sys.stderr)
    try:
        declare = _declarer(given)
        if on_terminal:
            code = _interact(declare(run_terminal), given.cmd)
        else:
            given_input = b"" if sys.stdin.isatty() or given.cmd else sys.stdin.buffer.read()
            code = declare(run_command).remote(given.cmd, given_input)
        return int(code) if code >= 0 else 128 - int(code)
    finally:
        session.close("the shell has ended")
        unsubscribe()


# --- the container -------------------------------------------------------------------------------


def _declarer(given: argparse.Namespace) -> Callable[[Callable[..., int]], Any]:
    """Return what makes a function or method, to be called, of the code to run."""
    if given.script is None:
        options = _plain_options(given)
        return lambda function: App().function(name="shell", **options)(function)
    name, _, wanted = given.script.partition("::")
    spec = _target(load(name, given.m), wanted)
    chosen = {
        option: getattr(spec.options, option) for option in declared() if option not in _OF_CALLS
    }
    if not spec.build:
        return lambda function: App().function(name="shell", **chosen)(function)

    def declare(function: Callable[..., int]) -> Any:
        # A class with the same build hooks has the same image; what starts with it is left out.
        own = dict.fromkeys((*spec.enter, *spec.exit, *spec.methods), _nothing)
        marked = method()(types.FunctionType(_call.__code__, {"run_it": function}, "shell"))
        made = type("Shell", (spec.cls,), {**own, "shell": marked})
        instance: Any = App().cls(name="shell", **chosen)(made)
        return instance().shell

    return declare


def _call(self: Any, *args: Any) -> int:
    code: int = run_it(*args)  # type: ignore[name-defined] # noqa: F821
    return code


def _nothing(self: Any) -> None:
    pass


def _plain_options(given: argparse.Namespace) -> dict[str, Any]:
    image = Image.debian_slim()
    if given.image:
        image = Image.from_registry(given.image, add_python=given.add_python)
    return {
        "image": image,
        "volumes": {f"/mnt/{name}": Volume.from_name(name) for name in given.volume},
        "secrets": [Secret.from_name(name) for name in given.secret],
        "cpu": given.cpu,
        "memory": given.memory,
        "gpu": given.gpu,
    }


def _target(module: types.ModuleType, wanted: str) -> ClassSpec:
    """Return the class or function of this name, or the only one of the script."""
    apps = {id(one): one for one in vars(module).values() if isinstance(one, App)}
    found: dict[str, ClassSpec] = {}
    for app in apps.values():
        for _, _, spec in app.declared():
            found.setdefault(spec.name, spec)
    variables = {key for key, value in vars(module).items() if isinstance(value, App)}
    first, _, rest = wanted.partition(".")
    if rest and first in variables:  # app.Class.method
        first = rest.partition(".")[0]
    if first in found:
        return found[first]
    if not wanted and len(found) == 1:
        return next(iter(found.values()))
    there = f"it has {', '.join(found)}" if found else "it declares none"
    said = f"no class or function {wanted!r}" if wanted else "several classes and functions"
    if not found:
        said = "no class or function"
    raise InvalidError(f"{module.__file__} has {said}: {there}. Fix: script.py::name")


# --- a terminal ----------------------------------------------------------------------------------


def _interact(function: Any, command: str | None) -> int:
    """Connect this terminal with the one in the container until the shell ends."""
    ended, end = os.pipe()
    with Queue.ephemeral() as inbox, Queue.ephemeral() as outbox:
        call = function.spawn(command, inbox, outbox, _size(), os.environ.get("TERM", "xterm"))

        def show() -> None:
            with contextlib.suppress(Exception):  # the session ends
                while (shown := outbox.get()) is not None:
                    os.write(1, shown)
            os.close(end)

        # A container that fails to start, or dies, puts nothing more.
        call._future.add_done_callback(lambda _: _quietly(lambda: outbox.put(None)))
        showing = threading.Thread(target=show, name="shell-output", daemon=True)
        showing.start()
        try:
            with _raw(0):
                _type_into(inbox, ended)
        finally:
            os.close(ended)
        code: int = call.get()
        return code


def _quietly(do: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):
        threading.Thread(target=do, daemon=True).start()


def _type_into(inbox: Queue, ended: int) -> None:
    """Put what is typed into the queue until the other end of ``ended`` is closed."""
    size = _size()
    while True:
        ready = select.select([0, ended], [], [])[0]
        if ended in ready:
            return
        typed = os.read(0, 4096)
        if _size() != size:
            size = _size()
            inbox.put(size)
        if not typed:
            inbox.put(b"\x04")  # end of input
            select.select([ended], [], [])
            return
        inbox.put(typed)


def _size() -> tuple[int, int]:
    return tuple(shutil.get_terminal_size())  # type: ignore[return-value]


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Hand every key on as it is typed, Ctrl-C too."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)  # keeps what was typed ahead
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
