"""Tracebacks of methods, shown as those of a plain cell: the same code is run both ways."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from kernel.harness import CellFailed, Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.xdist_group("tracebacks")]

CODE = """
import asyncio, contextlib, functools, json
import lifecycle_magic as lm

class Refused(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code

def twice(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        function(*args, **kwargs)
        return function(*args, **kwargs)
    return wrapper

def parse(text):
    inner = [text]

    # a comment in between
    return json.loads(inner[0])

class M:
    @lm.method()
    def plain(self, x, *rest, key=1, **more):
        a = 1
        b = 0
        c = a / b
        # after
        return c

    @lm.method()
    def several_lines(self):
        return dict(
            a=1,
            b=int(
                "no number"
            ),
        )

    @lm.method()
    def library(self):
        try:
            return parse("{")
        except ValueError as error:
            raise Refused(code=3) from error

    @lm.method()
    def while_handling(self):
        try:
            {}["missing"]
        except KeyError:
            with contextlib.suppress(OSError):
                raise Refused(code=4)

    @lm.method()
    @twice
    def decorated(self):
        return (lambda x: x + self.nothing)(1)

    @lm.method()
    def deeper(self, depth=5):
        if depth == 0:
            raise RuntimeError("deep enough")
        return self.deeper(depth - 1)

    @lm.method()
    def listed(self):
        return [1 / (x - 2) for x in range(4)]

    @lm.method()
    def generated(self):
        yield 1
        raise Refused(code=5)

    @lm.method()
    async def later(self):
        await asyncio.sleep(0)
        async with asyncio.Lock():
            await self.inner()

    async def inner(self):
        await asyncio.sleep(0)
        raise Refused(code=6)

    @lm.method()
    def written(self):
        exec(compile("x = 1\\ny = x / 0", "<written>", "exec"))
"""

METHODS = {  # how each is called, plain and through the product
    "plain": ("M().plain(3)", "M().plain.remote(3)"),
    "several_lines": ("M().several_lines()", "M().several_lines.remote()"),
    "library": ("M().library()", "M().library.remote()"),
    "while_handling": ("M().while_handling()", "M().while_handling.remote()"),
    "decorated": ("M().decorated()", "M().decorated.remote()"),
    "deeper": ("M().deeper()", "M().deeper.remote()"),
    "listed": ("M().listed()", "M().listed.remote()"),
    "generated": ("list(M().generated())", "list(M().generated.remote_gen())"),
    "later": ("await M().later()", "await M().later.remote()"),
    "written": ("M().written()", "M().written.remote()"),
}
OTHER_WAYS = {
    "plain": [
        "M().plain.spawn(3).get()",
        "await M().plain.spawn(3)",
        "await M().plain.remote.aio(3)",
        "list(M().plain.map([3]))",
        "[x async for x in M().plain.map.aio([3])]",
        "M().plain.for_each([3])",
        "lm.gather(M().plain.spawn(3))",
    ],
    "generated": ["[x async for x in M().generated.remote_gen.aio()]"],
    "later": ["M().later.remote().get()", "await M().later.remote.aio()"],
}
MODES = ("Context", "Verbose", "Plain", "Minimal")


def shown(kernel: Kernel, call: str) -> str:
    """What the notebook shows when the call raises."""
    with pytest.raises(CellFailed) as failed:
        kernel.run(call)
    return str(failed.value).rpartition("\nprinted: ")[0]


def comparable(text: str, call: str) -> list[str]:
    """The lines of a traceback without the caller's, and without what differs in value only."""
    # Of a cause, IPython shows the line at which its frame stands now, not the one that raised.
    text = re.split(r"\n\n(?:The above exception|During handling)[^\n]*\n", text)[-1]
    lines = []
    for raw in text.splitlines():
        line = raw.rstrip()
        if call in line or re.match(r"\s*Cell In\[\d+\], line 1\b", line):
            continue  # the caller
        line = re.sub(r"Cell In\[\d+\]", "Cell In[*]", line)
        line = re.sub(r" in ([\w.<>]+)\(.*\)$", r" in \1", line)
        line = re.sub(r"<container>", "", line)
        if re.match(r"\s*(?![\d-])[\w.() -]+ = (?!a / b)|-+$", line):  # a variable, in mode Verbose
            continue
        if line:
            lines.append(line)
    return lines


@pytest.fixture(scope="module")
def plain() -> dict[tuple[str, str], list[str]]:
    """Filled by the first test that has a kernel: mode and method to what plain Python shows."""
    return {}


@pytest.fixture(scope="module")
def declared(
    engine: str, kernel: Kernel, plain: dict[tuple[str, str], list[str]]
) -> tuple[Kernel, str]:
    """A kernel with the class, and the number of its cell."""
    kernel.run("%load_ext lifecycle_magic")
    kernel.run("import os; os.environ['LIFECYCLE_MAGIC_ENGINE'] = " + repr(engine))
    if not plain:
        kernel.run("# a line in the place of the magic's\n" + CODE)
        for mode in MODES:
            kernel.run(f"%xmode {mode}")
            for name, (call, _) in METHODS.items():
                plain[mode, name] = comparable(shown(kernel, call), call)
    kernel.run("%%lifecycle_cls\n" + CODE)
    number = kernel.run("print(len(In) - 2)").strip()
    return kernel, number


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    return "process"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_s_traceback_is_that_of_a_plain_cell(
    declared: tuple[Kernel, str],
    plain: dict[tuple[str, str], list[str]],
    mode: str,
    name: str,
) -> None:
    kernel, number = declared
    kernel.run(f"%xmode {mode}")
    call = METHODS[name][1]
    text = shown(kernel, call)
    assert comparable(text, call) == plain[mode, name]
    if mode != "Minimal":
        assert f"Cell In[{number}], line" in text
        assert call in text


def test_causes_show_the_lines_that_raised(declared: tuple[Kernel, str]) -> None:
    kernel, number = declared
    for mode, arrow in {"Context": "---> 45 ", "Verbose": "---> 45 ", "Plain": ""}.items():
        kernel.run(f"%xmode {mode}")
        text = shown(kernel, "M().library.remote()")
        cause, error = text.split("The above exception was the direct cause")
        assert re.search(rf"Cell In\[{number}\], line 45\b", cause)
        assert re.search(rf'{arrow} +return parse\("{{"\)', cause)
        assert "return json.loads(inner[0])" in cause
        assert "raise Refused(code=3) from error" in error


@pytest.mark.parametrize(("name", "call"), [(n, c) for n in OTHER_WAYS for c in OTHER_WAYS[n]])
def test_every_way_to_call_shows_the_same(
    declared: tuple[Kernel, str],
    plain: dict[tuple[str, str], list[str]],
    name: str,
    call: str,
) -> None:
    kernel, _ = declared
    kernel.run("%xmode Context")
    assert comparable(shown(kernel, call), call) == plain["Context", name]


def test_what_is_caught_has_no_frames_of_ours(declared: tuple[Kernel, str]) -> None:
    kernel, _ = declared
    told = kernel.run(
        """
        import logging, sys, traceback
        logging.basicConfig(stream=sys.stdout, force=True)
        for _ in range(2):
            try:
                M().library.remote()
            except Refused as error:
                logging.exception("it failed")
                print([f.name for f in traceback.extract_tb(error.__traceback__)], vars(error))
        """
    )
    assert "raise Refused(code=3) from error" in told
    assert "return json.loads(inner[0])" in told
    outer = "" if sys.version_info >= (3, 11) else "'__call__', "
    assert f"['<module>', {outer}'library'] {{'code': 3}}" in told


def test_our_own_errors_show_no_frames_of_ours(declared: tuple[Kernel, str]) -> None:
    kernel, _ = declared
    for call in (
        "M().plain(1)",
        "M().nothing",
        "M().plain.remote(__import__('threading').Lock())",
        "M(1)",
        "M().generated.map([])",
    ):
        text = shown(kernel, call)
        assert "lifecycle_magic" + os.sep not in text, text
        assert text.count("Cell In[") == 1, text


def test_all_frames_are_shown_on_request(declared: tuple[Kernel, str]) -> None:
    kernel, _ = declared
    kernel.run("os.environ['LIFECYCLE_MAGIC_TRACEBACK'] = 'full'")
    try:
        assert "lifecycle_magic" + os.sep in shown(kernel, "M().plain.remote(3)")
    finally:
        kernel.run("del os.environ['LIFECYCLE_MAGIC_TRACEBACK']")


def test_debug_opens_the_remote_source(declared: tuple[Kernel, str]) -> None:
    kernel, _ = declared
    told = kernel.run(
        """
        import sys
        try:
            M().plain.remote(3)
        except ZeroDivisionError as error:
            from IPython.core.debugger import Pdb
            import io
            shown = io.StringIO()
            debugger = Pdb(stdin=io.StringIO("up\\ndown\\nlist\\nargs\\nquit\\n"), stdout=shown)
            debugger.use_rawinput = False
            debugger.reset()
            debugger.interaction(None, error.__traceback__)
            print(shown.getvalue())
        """
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", told)
    assert "c = a / b" in plain
    assert "M().plain.remote(3)" in plain
    assert "x = <in the container>" in plain


HOOKS = """
%%lifecycle_cls
class Starts:
    def __init__(self, where="enter"):
        self.where = where
        if where == "constructor":
            raise Refused(code=7)

    @lm.enter()
    def load(self):
        if self.where == "enter":
            raise Refused(code=8)

    @lm.method()
    def go(self):
        return 1
"""

BUILD = """
%%lifecycle_cls
class Bakes:
    @lm.build()
    def bake(self):
        raise Refused(code=9)

    @lm.method()
    def go(self):
        return 1
"""


def test_hooks_show_the_lines_that_raised(declared: tuple[Kernel, str]) -> None:
    kernel, _ = declared
    kernel.run("%xmode Context")
    shows = {
        HOOKS.strip(): "Refused(code=8)",
        "Starts().go.remote()": "Refused(code=8)",
        "Starts('constructor').go.remote()": "Refused(code=7)",
        BUILD.strip(): "Refused(code=9)",
    }
    for cell, line in shows.items():
        text = shown(kernel, cell)
        assert re.search(rf"---> \d+ +raise {re.escape(line)}", text), text
        assert "lifecycle_magic" + os.sep not in text, text


def test_an_interrupt_is_shown_as_one(declared: tuple[Kernel, str]) -> None:
    kernel, _ = declared
    # The kernel interrupts itself as soon as the method's first line arrives.
    kernel.run(
        """
        import os, signal, sys
        class Interrupting:
            def write(self, text):
                os.kill(os.getpid(), signal.SIGINT)
            def flush(self):
                pass
        """
    )
    kernel.run(
        "%%lifecycle_cls\nclass Spins:\n    @lm.method()\n    def spin(self):\n"
        "        print('spinning')\n        while True: pass"
    )
    text = shown(
        kernel,
        "import contextlib\nwith contextlib.redirect_stdout(Interrupting()):"
        "\n    Spins().spin.remote()",
    )
    assert "KeyboardInterrupt" in text
    assert "InputCancelled" not in text
    assert "lifecycle_magic" + os.sep not in text


def test_a_module_beside_the_notebook_is_shown_by_its_own_path(
    declared: tuple[Kernel, str], tmp_path: Path
) -> None:
    kernel, _ = declared
    helper = tmp_path / "helper_beside.py"
    helper.write_text("def divide(x):\n    return 1 / x\n")
    kernel.run(f"import sys; sys.path.insert(0, {str(tmp_path)!r})")
    kernel.run(
        "%%lifecycle_cls\nimport helper_beside\nclass Helped:\n    @lm.method()\n"
        "    def go(self):\n        return helper_beside.divide(0)"
    )
    text = shown(kernel, "Helped().go.remote()")
    assert "<container>" not in text
    assert re.search(r"----> 2 +return 1 / x", text)


def test_notes_are_shown_on_every_python(declared: tuple[Kernel, str]) -> None:
    kernel, _ = declared
    kernel.run(
        "%%lifecycle_cls\nclass Lacks:\n    @lm.method()\n    def go(self):\n"
        "        import no_such_module_anywhere"
    )
    text = shown(kernel, "Lacks().go.remote()")
    assert "No module named 'no_such_module_anywhere'" in text
    assert text.count("The image of Lacks does not have it") == 1
