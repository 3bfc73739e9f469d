"""Methods that ask the user, in real kernels that send input requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernel.harness import Kernel, OwnKernel, own_kernel, path_without_bwrap

CLASSES = """
import os
{path}
import getpass, sys
from getpass import getpass as ask_secretly
import lifecycle_magic as lm

app = lm.App()

@app.cls(engine={engine!r})
class Asks:
    @lm.method()
    def name(self, prompt):
        print("before")
        self.calls = getattr(self, "calls", 0) + 1
        return input(prompt), self.calls

    @lm.method()
    def secret(self):
        return getpass.getpass("one: ") + ask_secretly("two: ")

    @lm.method()
    def lines(self):
        return sys.stdin.readline(), [line for line in sys.stdin]

    @lm.method()
    async def later(self):
        return input("later? ")

    @lm.method()
    def items(self):
        for number in range(2):
            yield input(f"item {{number}}? ")

    @lm.method()
    def one_asks(self, number):
        return input("which? ") if number == 1 else number

    @lm.method()
    def stops(self, x):
        y = x + 1
        breakpoint()
        z = self.inner(y)
        return z

    def inner(self, q):
        r = q * 10
        return r

@app.cls(engine={engine!r})
class Relays:
    @lm.method()
    def name(self):
        return Asks().name.remote("relayed? ")[0]

    @lm.method()
    def stops(self):
        return Asks().stops.remote(1)

asks = Asks()
relays = Relays()
"""


@pytest.fixture(scope="module")
def asks(
    engine: str, tmp_path_factory: pytest.TempPathFactory, event_loop: None, state_dir: Path
) -> OwnKernel:
    """A kernel with the class `Asks`, in which a container runs."""
    with own_kernel(tmp_path_factory.mktemp("kernel") / "tmp") as kernel:
        path = f"os.environ['PATH'] = {path_without_bwrap()!r}" if engine == "plain" else ""
        named = "process" if engine == "plain" else engine
        kernel.run(CLASSES.format(engine=named, path=path))
        yield kernel


def said(kernel: Kernel, code: str, *answers: str) -> tuple[str, list[tuple[str, bool]]]:
    """Return what a cell printed and asked, with the value of ``code`` as its last line."""
    talk = kernel.talk(f"print({code})", *answers)
    assert talk.failed is None, talk.failed
    return talk.printed, talk.prompts


def test_a_method_asks_in_the_cell_that_waits_for_it(asks: Kernel) -> None:
    printed, prompts = said(asks, "asks.name.remote('who? ')[0]", "Ann")
    assert (printed, prompts) == ("before\nAnn\n", [("who? ", False)])
    assert said(asks, "asks.secret.remote()", "a", "b") == (
        "ab\n",
        [("one: ", True), ("two: ", True)],
    )
    assert said(asks, "asks.lines.remote()", "a", "b", "\x04")[0] == "('a\\n', ['b\\n'])\n"
    for call in ("await asks.later.remote()", "asks.later.remote().get()"):
        assert said(asks, call, "now") == ("now\n", [("later? ", False)])
    assert said(asks, "await asks.name.remote.aio('who? ')", "B")[1] == [("who? ", False)]
    printed, prompts = said(asks, "list(asks.items.remote_gen())", "x", "y")
    assert (printed, [text for text, _ in prompts]) == ("['x', 'y']\n", ["item 0? ", "item 1? "])
    printed, prompts = said(asks, "relays.name.remote()", "C")
    assert (printed, prompts) == ("before\nC\n", [("relayed? ", False)])
    many = asks.talk("print(list(asks.one_asks.map(range(3))))", "this")
    assert "[0, 'this', 2]" in many.printed
    assert many.texts == ["which? "]


def test_an_interrupt_at_a_prompt_ends_the_call_and_keeps_the_instance(asks: Kernel) -> None:
    before = int(said(asks, "asks.name.remote('')[1]", "")[0].split()[1])
    for call in (
        "asks.name.remote('who? ')",
        "asks.stops.remote(1)",
        "list(asks.one_asks.map([1]))",
        "asks.later.remote().get()",
        "relays.stops.remote()",
    ):
        talk = asks.talk(call)
        assert talk.failed is not None, call
        assert talk.failed.name == "KeyboardInterrupt", talk.failed
        assert len(talk.prompts) == 1
    ended = asks.talk("asks.name.remote('who? ')", "\x04").failed
    assert ended is not None
    assert ended.name == "EOFError"
    assert (
        int(said(asks, "asks.name.remote('')[1]", "")[0].split()[1]) == before + 3
    )  # of the same instance


def test_a_breakpoint_steps_shows_and_continues_as_in_plain_python(asks: Kernel) -> None:
    commands = ["p x, y", "!y = 5", "s", "s", "n", "p q, r", "w", "up", "p x", "interact"]
    talk = asks.talk("print(asks.stops.remote(1))", *commands, "print(x + 1)", "\x04", "c")
    assert talk.failed is None
    assert "(1, 2)\n" in talk.printed
    assert "--Call--" in talk.printed
    assert "(5, 50)\n" in talk.printed
    assert talk.printed.endswith("50\n")
    assert "lifecycle_magic/" not in talk.printed  # no frame of this package
    # After the method's end nothing is traced, and the next call stops at its own breakpoint only.
    talk = asks.talk("print(asks.stops.remote(1))", "n", "n", "n")
    assert talk.printed.count("-> ") == 3
    assert talk.printed.endswith("20\n")
    quit_ = asks.talk("asks.stops.remote(1)", "q")  # IPython shows no BdbQuit
    assert (quit_.failed, quit_.texts) == (None, ["(Pdb) "])
    assert said(asks, "asks.one_asks.remote(0)") == ("0\n", [])


def test_without_a_cell_that_can_answer_the_error_says_what_to_do(asks: Kernel) -> None:
    for call in ("asks.name.spawn('who? ').get()", "asks.stops.spawn(1).get()"):
        talk = asks.talk(call)
        assert talk.failed is not None
        assert "no cell or terminal waits for this call. Fix: " in talk.failed.value
        assert not talk.prompts
    refused = """
        try:
            asks.name.remote("who? ")
        except EOFError as error:
            print(error)
        """
    assert "this front end takes no input" in asks.run(refused)
