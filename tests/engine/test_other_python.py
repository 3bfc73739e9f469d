"""A class whose image has another Python minor than the kernel runs as if it had the same."""

from __future__ import annotations

import linecache
import sys
import textwrap
import traceback
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.engines.process import interpreters
from lifecycle_magic.exception import BuildError, SerializationError
from lifecycle_magic.session import session

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [one for one in ("3.10", "3.11", "3.12", "3.13") if one != HERE]

_numbers = count()


class Notebook:
    """Cells whose text can be looked up, as IPython's can, in one namespace."""

    def __init__(self, app: lm.App, image: lm.Image) -> None:
        self.app = app
        self.image = image
        self.space = vars(sys.modules["__main__"])

    def run(self, text: str) -> None:
        text = textwrap.dedent(text)
        name = f"<other-python {next(_numbers)}>"
        linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
        exec(compile(text, name, "exec", dont_inherit=True), self.space)

    def declare(self, text: str, name: str = "Model", **options: Any) -> Any:
        """Run a cell that defines a class, and declare it; its handle."""
        self.run(text)
        handle = self.app.cls(image=self.image, **options)(self.space[name])
        self.space[name] = handle
        return handle


@pytest.fixture(params=OTHERS)
def version(request: pytest.FixtureRequest) -> str:
    if interpreters.find(request.param) is None:
        pytest.skip(f"there is no Python {request.param} on this machine")
    return str(request.param)


@pytest.fixture
def notebook(version: str, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    before = dict(vars(sys.modules["__main__"]))
    app = lm.App(request.node.name, engine="process")
    with app.run():
        yield Notebook(app, lm.Image.debian_slim(version))
    session.close("the test is over")
    space = vars(sys.modules["__main__"])
    for name in space.keys() - before.keys():
        del space[name]
    space.update(before)


EVERYTHING = """
import abc, collections, contextlib, dataclasses, enum, functools, sys, typing
import lifecycle_magic as lm

SCALE = 3

def helper(x): return x * SCALE

@dataclasses.dataclass(frozen=True, order=True)
class Point:
    x: int
    y: int = 2
    tags: list = dataclasses.field(default_factory=list, compare=False)
    def norm(self): return self.x + self.y

@dataclasses.dataclass
class Base:
    a: int
    seed: dataclasses.InitVar[int] = 0
    def __post_init__(self, seed): self.a += seed

@dataclasses.dataclass(slots=True, kw_only=True)
class Child(Base):
    b: str = "b"

class Color(enum.Enum):
    RED = 1
    BLUE = "b"
    def shout(self): return self.name + "!"

class Perm(enum.IntFlag):
    R = 4
    W = 2

class Pair(typing.NamedTuple):
    p: int
    q: str = "q"
    def both(self): return f"{self.p}{self.q}"

Triple = collections.namedtuple("Triple", "m n o", defaults=[5])

def deco(f):
    @functools.wraps(f)
    def inner(*a, **k):
        return ("deco", f(*a, **k))
    return inner

@deco
def decorated(x): return x + 1

two = (lambda x: x + 1, lambda x: x + 2)

@contextlib.contextmanager
def managed(v):
    yield v

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

class Square(Shape):
    side = 4
    @property
    def double(self): return self.side * 2
    @functools.cached_property
    def half(self): return self.side / 2
    @classmethod
    def made(cls): return cls()
    @staticmethod
    def plain(): return "plain"
    @functools.singledispatchmethod
    def show(self, x): return "any"
    @show.register
    def _(self, x: int): return "int"
    def area(self): return self.side ** 2

def factory(n):
    def add(x): return x + n
    return add

add5 = factory(5)

@functools.lru_cache
def cached(x): return x * 2

@functools.singledispatch
def kind(x): return "any"

@kind.register
def _(x: int): return "int"

@functools.total_ordering
class Ordered:
    def __init__(self, v): self.v = v
    def __eq__(self, o): return self.v == o.v
    def __lt__(self, o): return self.v < o.v

def everything(p):
    with managed(7) as v:
        pass
    try:
        p.x = 3
        frozen = "no"
    except dataclasses.FrozenInstanceError as error:
        frozen = str(error)
    square = Square.made()
    return [
        helper(2), p.norm(), p < Point(9, 9), hash(p) == hash(Point(p.x)), repr(p), frozen,
        repr(Child(a=1, seed=2)), dataclasses.asdict(Child(a=1)), dataclasses.replace(p, x=7),
        [f.name for f in dataclasses.fields(Child)],
        Color.BLUE.shout(), Color(1), Perm.R | Perm.W, Perm(6).value, ~Perm.R & Perm.W,
        Pair(1).both(), Pair(2)._replace(p=4), Pair._make((1, "z"))._asdict(), Triple(1, 2),
        decorated(1), decorated.__name__, two[0](1), two[1](1), v, add5(1), cached(4), cached(4),
        square.area(), square.double, square.half, square.plain(), isinstance(square, Shape),
        square.show(1), square.show("a"),
        kind(3), kind("s"), Ordered(1) >= Ordered(0), [x * SCALE for x in range(3)],
        {x: y for x, y in zip("ab", (1, 2))}, (lambda *a, k=2: (a, k))(1),
    ]

class Model:
    size: int = lm.parameter(default=4)
    @lm.enter()
    def load(self):
        self.n = 10
    @lm.method()
    def version(self): return "{}.{}".format(*sys.version_info)
    @lm.method()
    def all(self, p): return everything(p)
    @lm.method()
    def echo(self, *x): return x
    @lm.method()
    def made(self):
        step = self.n
        return Point(1), Child(a=3), Color.RED, Pair(1), Triple(1, 2), (lambda z: z + step + SCALE)
    @lm.method()
    async def later(self): return [self.n async for _ in self.few()]
    async def few(self):
        yield 1
"""


def test_what_a_class_refers_to_means_the_same_there(notebook: Notebook, version: str) -> None:
    model = notebook.declare(EVERYTHING)()
    names = notebook.space
    assert model.version.remote() == version
    point = names["Point"](1)
    assert model.all.remote(point) == names["everything"](point)
    assert model.later.remote() == [10]


def test_annotations_that_are_strings_cross(notebook: Notebook) -> None:
    model = notebook.declare(f"from __future__ import annotations\n{EVERYTHING}")()
    names = notebook.space
    assert model.all.remote(names["Point"](1)) == names["everything"](names["Point"](1))
    assert model.echo.remote(names["Pair"](1)) == (names["Pair"](1),)


def test_values_of_the_cells_classes_cross_both_ways(notebook: Notebook) -> None:
    import datetime
    import decimal
    import pathlib
    import uuid

    model = notebook.declare(EVERYTHING)(size=8)
    names = notebook.space
    values = (
        *(names["Point"](1), names["Child"](a=1, b="c"), names["Color"].RED, names["Pair"](3)),
        *(names["Perm"].W, names["Triple"](1, 2), pathlib.Path("a/b"), datetime.date(2020, 1, 1)),
        *(decimal.Decimal("1.5"), uuid.UUID(int=1), {"a": {1, 2}, "b": b"x" * 300_000}, int | None),
    )
    assert model.echo.remote(*values) == values
    point, child, color, pair, triple, function = model.made.remote()
    assert type(point) is names["Point"]
    assert color is names["Color"].RED
    assert (point, child) == (names["Point"](1), names["Child"](a=3))
    assert (pair, triple) == (names["Pair"](1), names["Triple"](1, 2))
    assert function(1) == 14
    notebook.run("scale = lambda q: q * SCALE")
    (back,) = model.echo.remote(names["scale"])
    assert back(2) == 6


def test_an_edited_method_keeps_what_enter_loaded(notebook: Notebook) -> None:
    cell = """
    import itertools, sys
    import lifecycle_magic as lm

    numbers = itertools.count()
    BONUS = {bonus}

    def helper(x): return x + BONUS

    class Model:
        @lm.enter()
        def load(self): self.loaded = next(numbers); self.seen = []
        @lm.method()
        def add(self, x):
            self.seen.append(x)
            return {value}
    """
    first = cell.format(bonus=1, value="helper(x), self.loaded, self.seen")
    handle = notebook.declare(first)
    assert handle().add.remote(1) == (2, 0, [1])
    handle = notebook.declare(cell.format(bonus=1, value="'new', helper(x), self.seen"))
    assert handle().add.remote(2) == ("new", 3, [1, 2])
    handle = notebook.declare(cell.format(bonus=10, value="'new', helper(x), self.seen"))
    assert handle().add.remote(3) == ("new", 13, [1, 2, 3])


def test_an_exception_arrives_with_its_frames_and_lines(notebook: Notebook) -> None:
    model = notebook.declare(
        """
        import lifecycle_magic as lm

        class Broken(Exception):
            def __init__(self, code, why):
                super().__init__(f"{code}: {why}")
                self.code = code

        def deeper(x):
            raise Broken(x, "it broke") from KeyError("inner")

        class Model:
            @lm.method()
            def fail(self, x):
                return deeper(x)
        """
    )()
    with pytest.raises(notebook.space["Broken"]) as caught:
        model.fail.remote(3)
    assert caught.value.code == 3
    assert isinstance(caught.value.__cause__, KeyError)
    text = "".join(traceback.format_exception(caught.value))
    assert 'raise Broken(x, "it broke") from KeyError("inner")' in text
    assert "return deeper(x)" in text


def test_modules_and_classes_of_modules_run_there(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "other_helper.py").write_text(
        "import dataclasses\n\n@dataclasses.dataclass\nclass Item:\n    x: int\n\n"
        "def twice(item): return Item(item.x * 2)\n"
    )
    (tmp_path / "other_declared.py").write_text(
        "import sys\nimport lifecycle_magic as lm\nfrom other_helper import Item, twice\n\n"
        "class Inside:\n    @lm.method()\n    def run(self, item):\n"
        "        return '{}.{}'.format(*sys.version_info), twice(item)\n"
    )
    try:
        import other_declared
        import other_helper

        handle = notebook.app.cls(image=notebook.image)(other_declared.Inside)
        item = other_helper.Item(2)
        assert handle().run.remote(item) == (version, other_helper.Item(4))
        model = notebook.declare(
            """
            import other_helper
            import lifecycle_magic as lm

            class Model:
                @lm.method()
                def run(self, item):
                    return isinstance(item, other_helper.Item), other_helper.twice(item)
            """
        )()
        assert model.run.remote(item) == (True, other_helper.Item(4))
    finally:
        for name in ("other_declared", "other_helper"):
            sys.modules.pop(name, None)


def test_functions_and_build_hooks_run_on_that_python(notebook: Notebook, version: str) -> None:
    notebook.run(
        """
        import pathlib, sys
        import lifecycle_magic as lm

        def prepare(name):
            pathlib.Path("prepared").write_text(f"{name} {sys.version_info[1]}")

        def minor(x): return x, sys.version_info[1]

        class Model:
            @lm.build()
            def download(self):
                pathlib.Path("built").write_text(f"built {sys.version_info[1]}")
            @lm.method()
            def read(self):
                return pathlib.Path("prepared").read_text(), pathlib.Path("built").read_text()
        """
    )
    image = notebook.image.run_function(notebook.space["prepare"], args=("data",))
    digits = version.partition(".")[2]
    model = notebook.app.cls(image=image)(notebook.space["Model"])()
    assert model.read.remote() == (f"data {digits}", f"built {digits}")
    function = notebook.app.function(image=image)(notebook.space["minor"])
    assert function.remote(1) == (1, int(digits))


def test_what_has_no_source_is_refused_by_name_at_the_declaration(notebook: Notebook) -> None:
    cell = """
    import lifecycle_magic as lm

    made = {"__name__": "__main__"}
    exec("def nameless(x): return x", made)
    nameless = made["nameless"]

    class Model:
        @lm.method()
        def run(self, x): return nameless(x)
    """
    with pytest.raises(SerializationError, match=r"Model.*nameless.* no source text.*Fix: "):
        notebook.declare(cell)().run.remote(1)


def test_an_argument_without_source_is_refused_by_name(notebook: Notebook) -> None:
    model = notebook.declare(EVERYTHING)()
    made: dict[str, Any] = {"__name__": "__main__"}
    exec("def nameless(x): return x", made)
    with pytest.raises(Exception, match=rf"nameless .*can't travel from Python {HERE} to"):
        model.echo.remote(made["nameless"])
    assert model.echo.remote(1) == (1,)


def test_a_class_of_the_kernels_python_runs_beside_it(notebook: Notebook, version: str) -> None:
    model = notebook.declare(EVERYTHING)()
    notebook.run(EVERYTHING.replace("class Model", "class Same"))
    same = notebook.app.cls()(notebook.space["Same"])()
    assert (model.version.remote(), same.version.remote()) == (version, HERE)
    names = notebook.space
    point = names["Point"](1)
    assert same.all.remote(point) == model.all.remote(point)
    assert same.echo.remote(point, lambda x: x)[0] == point


def test_a_python_that_is_not_here_and_cant_be_fetched_is_refused_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", tmp_path.as_uri())
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "pythons"))
    app = lm.App(request.node.name, engine="process")
    with app.run():
        image = lm.Image.debian_slim("3.12.99")

        @app.function(image=image)
        def one() -> int:
            return 1

        with pytest.raises(BuildError, match=r"no Python 3\.12\.99 on this machine.*Fix: install"):
            one.remote()
    session.close("the test is over")


@pytest.mark.docker
def test_a_python_is_added_to_an_image_of_a_registry(
    version: str, need_docker: Any, request: pytest.FixtureRequest
) -> None:
    app = lm.App(request.node.name, engine="docker")
    image = lm.Image.from_registry(f"python:{HERE}-slim", add_python=version)
    image = image.run_commands("python --version > /version && python -m pip --version")
    space = dict(vars(sys.modules["__main__"]))
    with app.run():
        notebook = Notebook(app, image)
        model = notebook.declare(EVERYTHING)()
        names = notebook.space
        assert model.version.remote() == version
        assert model.all.remote(names["Point"](1)) == names["everything"](names["Point"](1))
    session.close("the test is over")
    for name in vars(sys.modules["__main__"]).keys() - space.keys():
        del vars(sys.modules["__main__"])[name]
