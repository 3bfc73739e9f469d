"""What the names of a class cell mean, while it runs and after it is edited: real kernels."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from kernel.notebook import ENGINES, Notebook, open_notebook

pytestmark = [pytest.mark.kernel, pytest.mark.xdist_group("names")]


@pytest.fixture(scope="module", params=ENGINES)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notebook]:
    """A kernel with the extension loaded, on each engine."""
    with open_notebook(request, tmp_path_factory) as notebook:
        notebook.ok("import functools, os")
        yield notebook


@pytest.fixture
def notebook(shared: Notebook) -> Iterator[Notebook]:
    """The module's kernel; what the test started is stopped after it."""
    yield shared
    shared.ok("%lifecycle stop")


SELF = """\
%%lifecycle_cls
class V:
    LIMIT = {limit}

    @lm.method()
    def get(self):
        return V.LIMIT, isinstance(self, V), type(self) is V
"""


def test_a_class_names_itself_before_and_after_an_edit(notebook: Notebook):
    notebook.ok(SELF.format(limit=5))
    assert notebook.ok("V().get.remote()").result == "(5, True, True)"
    assert "unchanged" in notebook.ok(SELF.format(limit=5)).card
    notebook.ok(SELF.format(limit=6))
    assert notebook.ok("V().get.remote()").result == "(6, True, True)"


def test_classes_of_a_cell_name_bases_and_each_other(notebook: Notebook):
    shown = notebook.ok(
        """\
        %%lifecycle_cls
        class Base:
            def __init__(self, n):
                self.n = n
            @lm.method()
            def get(self):
                return self.n, Other.__name__
        class Other(Base):
            PATH = "here"
            def __init__(self):
                super(Other, self).__init__(3)
            @lm.build()
            def bake(self):
                open("baked", "w").write(Other.PATH)
            @lm.method()
            def read(self):
                return open("baked").read(), Base(4).get(), isinstance(self, Base)
        print(Other().read.remote(), Other().get.remote(), Base(5).get.remote())
        """
    )
    assert shown.text == "('here', (4, 'Other'), True) (3, 'Other') (5, 'Other')\n"


def test_a_call_in_the_cell_of_its_class_deploys_once(notebook: Notebook):
    cell = """\
        %%lifecycle_cls
        class M:
            @lm.method()
            def go(self, x):
                return x + M.K
        m = M()
        M.K = 5
        print(m.go.remote(1))
        M().go.remote(2)
        """
    shown = notebook.ok(cell)
    assert (shown.text, shown.result, len(shown.displays)) == ("6\n", "7", 1)
    assert "M: ready" in shown.card
    assert notebook.ok("m.go.remote(3), M().go.remote(4)").result == "(8, 9)"
    assert "unchanged" in notebook.ok(cell).card
    refused = notebook.run("M.K = 6")
    assert refused.error is not None
    assert "M.K = 6: M is a handle" in refused.error
    assert notebook.ok("m.go.remote(3), M.K").result == "(8, 5)"


@pytest.mark.parametrize("above", ["%%time\n{}", "%%capture shown\n{}", "{}%%time\n"])
def test_cell_magics_above_and_below_work(notebook: Notebook, above: str):
    cell = (
        "class M:\n    @lm.method()\n    def go(self):\n        return 1\nprint(M().go.remote())\n"
    )
    notebook.ok(above.format("%%lifecycle_cls\n") + cell)
    assert notebook.ok("M().go.remote()").result == "1"


RAISES = """\
%%lifecycle_cls
class M:
    @lm.method()
    def go(self):
        return {n}
{call}
raise LookupError("after it")
"""


def test_a_cell_that_raises_after_a_call_keeps_the_new_declaration(notebook: Notebook):
    notebook.ok(RAISES.format(n=1, call="").replace("raise", "#"))
    shown = notebook.run(RAISES.format(n=2, call="M().go.remote()"))
    assert shown.error == "LookupError: after it"
    assert re.search(r'-> \d+ raise LookupError\("after it"\)', shown.traceback)
    assert (
        "the cell raised LookupError after it had called M, so the new M stays deployed"
        in shown.card
    )
    assert notebook.ok("M().go.remote()").result == "2"


def test_a_cell_that_raises_without_a_call_changes_nothing(notebook: Notebook):
    notebook.ok(RAISES.format(n=1, call="").replace("raise", "#"))
    shown = notebook.run(RAISES.format(n=2, call="made = M()"))
    assert shown.error == "LookupError: after it"
    assert shown.displays == []
    assert notebook.ok("M().go.remote(), made.go.remote()").result == "(1, 1)"


def test_a_mistake_is_shown_at_the_class_statement(notebook: Notebook):
    shown = notebook.run(
        """\
        %%lifecycle_cls
        x = 1
        class Wrong:
            @staticmethod
            @lm.method()
            def go(): ...
        """
    )
    assert shown.error is not None
    assert "Wrong.go: @method below @staticmethod" in shown.error
    assert re.search(r"-> \d+ class Wrong:", shown.traceback)
    assert "lifecycle_magic/" not in shown.traceback


# --- every handle of a name runs its newest declaration ------------------------------------------

OLD = """\
o, cls = F(), F
handles = [o.f, o.f.remote, functools.partial(o.f.remote), [o], cls]
def call(one):
    one = one[0].f if isinstance(one, list) else one().f if isinstance(one, type(F)) else one
    return one.remote() if hasattr(one, "remote") else one()
"""


def test_old_handles_run_new_code_of_another_kind(notebook: Notebook):
    cell = """\
        %%lifecycle_cls
        class F:
            def __init__(self, size={size!r}):
                self.size = size
            @lm.method()
            {kind} f(self):
                return {value}
        """
    notebook.ok(cell.format(size="a", kind="def", value=1))
    notebook.ok(OLD)
    assert notebook.ok("[call(one) for one in handles]").result == "[1, 1, 1, 1, 1]"
    notebook.ok(cell.format(size="a", kind="async def", value=2))
    assert notebook.ok("[await call(one) for one in handles]").result == "[2, 2, 2, 2, 2]"
    notebook.ok(cell.format(size="b", kind="def", value="self.size"))
    assert notebook.ok("[call(one) for one in handles]").result == str(["b"] * 5)
    notebook.ok("big = F('big')\nassert big.f.remote() == 'big'")
    notebook.ok(
        """\
        %%lifecycle_cls
        class F:
            @lm.method()
            def g(self):
                return 4
        """
    )
    assert notebook.ok("o.g.remote()").result == "4"
    for call in ("o.f.remote()", "handles[1]()"):
        shown = notebook.run(call)
        assert shown.error is not None
        assert "F has no method f since it was declared again; it has g" in shown.error
    fits_no_more = notebook.run("big.g.remote()")
    assert fits_no_more.error is not None
    assert "F(...): too many positional arguments" in fits_no_more.error


def test_a_changed_default_is_another_instance(notebook: Notebook):
    cell = """\
        %%lifecycle_cls
        class D:
            def __init__(self, size={size!r}):
                self.size = size
            @lm.method()
            def get(self):
                return self.size
        """
    notebook.ok(cell.format(size="small"))
    notebook.ok("some = [D(), D('small'), D('big')]")
    get = "[one.get.remote() for one in some]"
    assert notebook.ok(get).result == "['small', 'small', 'big']"
    notebook.ok(cell.format(size="large"))
    assert notebook.ok(get).result == "['large', 'small', 'big']"


def test_a_reloaded_module_reaches_the_handles_imported_from_it(notebook: Notebook):
    text = (
        "import lifecycle_magic as lm\\napp = lm.App()\\n@app.cls()\\nclass Imported:\\n"
        "    @lm.method()\\n    def get(self): return VALUE\\n"
    )
    write = f"open('names_module.py', 'w').write('''{text}'''.replace('VALUE', {{}}))"
    notebook.ok("import importlib, sys, tempfile\nos.chdir(tempfile.mkdtemp())")
    notebook.ok(write.format("'1'") + "\nsys.path.insert(0, os.getcwd())")
    notebook.ok("import names_module\nfrom names_module import Imported\none = Imported()")
    assert notebook.ok("one.get.remote()").result == "1"
    notebook.ok(write.format("'2222'") + "\nimportlib.reload(names_module)")
    assert notebook.ok("one.get.remote(), Imported().get.remote()").result == "(2222, 2222)"


def test_what_a_factory_makes_keeps_its_own_code(notebook: Notebook):
    shown = notebook.ok(
        """\
        app = lm.App()
        def make(n):
            @app.function()
            def f():
                return n
            return f
        both = [make("foo"), make("bar")]
        [one.remote() for one in both]
        """
    )
    assert shown.result == "['foo', 'bar']"
    assert '@app.function(name=f"f-{n}")' in shown.text


def test_reading_a_handle_runs_nothing_here(notebook: Notebook):
    notebook.ok(
        """\
        %%lifecycle_cls
        class R:
            size: str = lm.parameter(default="small")
            @lm.enter()
            def load(self):
                print("entered here")
                self.count = 0
            @property
            def twice(self):
                return self.count * 2
            @lm.method()
            def add(self):
                self.count += 1
                return self.twice
        """
    )
    notebook.ok("o = R(size='big')\n[o.add.remote() for _ in range(3)]")
    shown = notebook.ok(
        "o.size, [hasattr(o, n) for n in ('twice', 'count', 'load', 'nope')], isinstance(o, R)"
    )
    assert shown.result == "('big', [False, False, False, False], True)"
    assert shown.text == ""
    refused = notebook.run("o.twice")
    assert refused.error is not None
    assert "R().twice is a property" in refused.error
    assert notebook.ok("o.add.remote()").result == "8"
