"""Modules beside the notebook travel with the class that refers to them, as the files they are."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.lifecycle.states import BuildStep, Event
from lifecycle_magic.session import session


class Notebook:
    """Cells in one folder, which is on the path as a notebook's folder is."""

    def __init__(self, app: lm.App, folder: Path) -> None:
        self.app = app
        self.folder = folder
        self.space: dict[str, Any] = {"__name__": "__main__", "lm": lm}

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def run(self, cell: str, **options: Any) -> Any:
        """Run a cell that defines ``Model``; the class's handle."""
        exec(textwrap.dedent(cell), self.space)
        return self.app.cls(**options)(self.space["Model"])


def forget() -> None:
    for name in [one for one in sys.modules if one.startswith("near_")]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget()


@pytest.fixture
def notebook(folder: Path, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    app = lm.App(request.node.name, engine="process")
    with app.run():
        yield Notebook(app, folder)


@pytest.fixture
def notebook_on_each(
    engine_name: str, folder: Path, request: pytest.FixtureRequest
) -> Iterator[Notebook]:
    app = lm.App(request.node.name, engine=engine_name)
    with app.run():
        yield Notebook(app, folder)


def test_modules_and_packages_travel_however_they_are_imported(notebook_on_each: Notebook) -> None:
    notebook = notebook_on_each
    notebook.write("near_one.py", "import near_two\nclass Thing:\n  n = near_two.N\n")
    notebook.write("near_two.py", "N = 2\n")
    notebook.write("near_kit/__init__.py", "from .part import half\n")
    notebook.write("near_kit/part.py", "from . import deep\ndef half(x): return x / deep.TWO\n")
    notebook.write("near_kit/deep.py", "TWO = 2\n")
    notebook.write("near_kit/words.txt", "some words")
    notebook.write("near_far.py", "def far(): return 'far'\n")
    model = notebook.run(
        """
        import near_one
        from near_kit import half

        class Model:
            @lm.method()
            def get(self):
                from near_far import far
                from importlib import resources
                words = resources.files("near_kit").joinpath("words.txt").read_text()
                return near_one.Thing.n, half(3), far(), words

            @lm.method()
            def thing(self, thing):
                assert isinstance(thing, near_one.Thing)
                return near_one.Thing()
        """
    )
    assert model().get.remote() == (2, 1.5, "far", "some words")
    thing = notebook.space["near_one"].Thing
    assert isinstance(model().thing.remote(thing()), thing)


def test_an_edit_of_a_module_arrives_with_the_next_run_of_the_cell(
    notebook_on_each: Notebook,
) -> None:
    notebook = notebook_on_each
    notebook.write("near_one.py", "# one\ndef f(): return 1\ndef other(): return 1\n")
    cell = """
        import near_one
        from near_one import f
        class Model:
            @lm.enter()
            def load(self): self.calls = 0
            @lm.method()
            def get(self):
                self.calls += 1
                return near_one.f(), f(), self.calls
        """
    assert notebook.run(cell)().get.remote() == (1, 1, 1)
    notebook.write("near_one.py", "# two\ndef f(): return 1\ndef other(): return 22\n")
    assert notebook.run(cell)().get.remote() == (1, 1, 2)  # nothing that the class reads
    notebook.write("near_one.py", "# two\ndef f(): return 333\ndef other(): return 22\n")
    assert notebook.run(cell)().get.remote() == (333, 333, 1)


def test_a_build_hook_runs_again_for_what_it_reads_of_a_module(notebook: Notebook) -> None:
    notebook.write("near_one.py", "def bake(): return 1\ndef serve(): return 1\n")
    cell = """
        from pathlib import Path
        import near_one
        class Model:
            @lm.build()
            def make(self): Path("baked").write_text(str(near_one.bake()))
            @lm.method()
            def get(self): return Path("baked").read_text(), near_one.serve()
        """
    events: list[Event] = []
    unsubscribe = session.current().bus.subscribe(events.append)
    assert notebook.run(cell)().get.remote() == ("1", 1)
    events.clear()
    notebook.write("near_one.py", "def bake(): return 1\ndef serve(): return 22\n")
    assert notebook.run(cell)().get.remote() == ("1", 22)
    assert not [event for event in events if isinstance(event, BuildStep)]
    notebook.write("near_one.py", "def bake(): return 333\ndef serve(): return 22\n")
    assert notebook.run(cell)().get.remote() == ("333", 22)
    unsubscribe()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("from near_consts import *\ndef value(): return N\n", "N = 1", "N = 2"),
        (
            "TABLE = []\ndef reg(fn):\n    TABLE.append(fn)\n    return fn\n"
            "@reg\ndef plug(): return 1\ndef value(): return TABLE[0]()\n",
            "return 1",
            "return 2",
        ),
    ],
    ids=["a star import", "a decorator that registers"],
)
def test_what_a_module_reads_in_a_roundabout_way_is_followed(
    notebook: Notebook, module: str, old: str, new: str
) -> None:
    cell = """
        from pathlib import Path
        import near_one
        class Model:
            @lm.build()
            def make(self): Path("baked").write_text(str(near_one.value()))
            @lm.method()
            def get(self): return Path("baked").read_text(), near_one.value()
        """
    consts = "N = 1\n"
    notebook.write("near_consts.py", consts)
    notebook.write("near_one.py", module)
    assert notebook.run(cell)().get.remote() == ("1", 1)
    notebook.write("near_consts.py", consts.replace(old, new) + "\n")
    notebook.write("near_one.py", module.replace(old, new) + "\n")
    assert notebook.run(cell)().get.remote() == ("2", 2)


SHARED = """
    import near_state
    from near_state import ITEMS, STATE, bump

    class Model:
        @lm.method()
        def go(self):
            bump()
            same = STATE is near_state.STATE, STATE["more"] is near_state.MORE
            return STATE["n"], list(ITEMS), *same
    """


def test_objects_of_a_module_are_the_modules_own(notebook_on_each: Notebook) -> None:
    notebook = notebook_on_each
    notebook.write(
        "near_state.py",
        """
        MORE = {}
        STATE = {"n": 0, "more": MORE}
        from collections import deque
        ITEMS = deque()

        def bump():
            STATE["n"] += 1
            ITEMS.append(STATE["n"])
        """,
    )
    model = notebook.run(SHARED)
    assert model().go.remote() == (1, [1], True, True)
    edited = notebook.run(SHARED.replace('STATE["n"], ', '-STATE["n"], '))
    assert edited().go.remote() == (-2, [1, 2], True, True)

    notebook.space["STATE"]["n"] = 40  # what the notebook changes counts, for the module as well
    notebook.space["ITEMS"].append("here")
    changed = notebook.run(SHARED)
    assert changed().go.remote() == (41, ["here", 41], True, True)


def test_an_exception_from_a_module_shows_its_source(notebook: Notebook) -> None:
    notebook.write("near_one.py", "class Odd(Exception): pass\ndef f(): raise Odd('no')\n")
    model = notebook.run(
        """
        import near_one
        class Model:
            @lm.method()
            def get(self): near_one.f()
        """
    )
    with pytest.raises(notebook.space["near_one"].Odd) as caught:
        model().get.remote()
    assert "raise Odd('no')" in str(caught.getrepr(style="native"))


@pytest.mark.parametrize("when", ["enter", "method", "top"])
def test_a_package_that_the_image_lacks_is_named_with_the_line_that_adds_it(
    notebook: Notebook, when: str
) -> None:
    notebook.write("near_one.py", "import hypothesis\ndef f(): return hypothesis.given\n")
    line = "near_one.f()" if when == "top" else "import hypothesis"
    model = notebook.run(
        f"""
        import near_one
        class Model:
            @lm.enter()
            def load(self): {"pass" if when == "method" else line}
            @lm.method()
            def get(self): {line}
        """
    )
    with pytest.raises(ModuleNotFoundError, match=r'\.pip_install\("hypothesis"\)') as caught:
        model().get.remote()
    assert caught.value.name == "hypothesis"
    assert "image of Model does not have it" in "".join(caught.value.__notes__)


def test_a_package_that_is_called_differently_is_named_as_pip_knows_it(notebook: Notebook) -> None:
    model = notebook.run(
        """
        class Model:
            @lm.method()
            def get(self):
                import dateutil.parser
        """
    )
    with pytest.raises(ModuleNotFoundError, match=r'\.pip_install\("python-dateutil"\)'):
        model().get.remote()


def test_a_package_too_large_to_travel_is_refused_with_the_mend(notebook: Notebook) -> None:
    notebook.write("near_kit/__init__.py", "")
    with (notebook.folder / "near_kit/weights.bin").open("wb") as file:
        file.truncate(100 << 20)
    model = notebook.run(
        """
        import near_kit
        class Model:
            @lm.method()
            def get(self): return near_kit
        """
    )
    with pytest.raises(InvalidError, match=r"near_kit/weights\.bin.*Volume\.from_path"):
        model().get.remote()
