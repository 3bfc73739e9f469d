"""A class of the notebook is the same one on both sides, also after its cell ran again."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = '''
import sys
sys.path.insert(0, {root!r})
from lifecycle_magic.services import packing
from lifecycle_magic.wire.pickling import dumps, loads

CELL = """
class Cfg:
    seen = 0
    def __init__(self, n): self.n = n
class M:
    def go(self, cfg): return isinstance(cfg, Cfg), cfg
"""

def run(text):
    exec(compile(text, "cell", "exec"), globals())
    packing.pack(M)  # as each run of the class's cell does
'''


def run(program: str) -> str:
    """Return the output of a program that defines its classes in ``__main__``."""
    root = __file__.rpartition("/tests/")[0]
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(root=root) + program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_a_cell_that_runs_again_makes_the_class_that_came_before() -> None:
    assert (
        run(
            """
run(CELL)
first = Cfg
sent = dumps(Cfg(1))[0]
run(CELL)
back = loads(sent)
print(Cfg is first, type(back) is Cfg, isinstance(loads(dumps(Cfg(2))[0]), Cfg))
"""
        )
        == "False True True\n"
    )


def test_an_edited_class_is_another_one() -> None:
    assert (
        run(
            """
run(CELL)
first = Cfg
sent = dumps(Cfg(1))[0]
run(CELL.replace("seen = 0", "seen = 1"))
print(type(loads(sent)) is Cfg, type(loads(sent)) is first)
"""
        )
        == "False True\n"
    )


def test_an_instance_that_arrives_leaves_its_class_as_it_is() -> None:
    assert (
        run(
            """
run(CELL)
sent = dumps(Cfg(1))[0]
Cfg.seen = 5
loads(sent)
print(Cfg.seen)
"""
        )
        == "5\n"
    )


def test_what_a_library_notes_in_a_class_makes_no_other_class() -> None:
    assert (
        run(
            """
import enum
from pydantic import BaseModel, PrivateAttr, field_validator
CELL = '''
class Mode(enum.Flag):
    READ = 1
    WRITE = 2
class Item(BaseModel):
    name: str = "a"
    _shelf: int = PrivateAttr(3)
    @field_validator("name")
    @classmethod
    def same(cls, value): return value
class M:
    def go(self, item: Item): return isinstance(item, Item), Mode.READ
'''
run(CELL)
Mode.READ | Mode.WRITE
Item(name="b")._shelf, Item.__signature__
sent = dumps((Item(), Mode.READ))[0]
run(CELL)
item, mode = loads(sent)
print(type(item) is Item, mode is Mode.READ)
run(CELL.replace("return value", "return value * 2").replace("WRITE = 2", "WRITE = 4"))
item, mode = loads(sent)
print(type(item) is Item, mode is Mode.READ)
"""
        )
        == "True True\nFalse False\n"
    )


def test_the_truth_of_a_class_is_not_asked() -> None:
    cell = """
class Meta(type):
    def __len__(cls): raise LookupError("no fields")
class Empty(metaclass=Meta): pass
class M:
    def go(self): return Empty()
"""
    program = f"run({cell!r})\nprint(type(loads(dumps(Empty())[0])) is Empty)"
    assert run(program) == "True\n"
