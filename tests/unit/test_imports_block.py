"""``with image.imports():`` stands in for the user's own imports, and leaves all others alone."""

from __future__ import annotations

import builtins
import copy
import linecache
import mimetypes
import pickle
import sys
import textwrap
import threading
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.decorators import travel
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint.fingerprint import of_function
from lifecycle_magic.fingerprint.image_only import ConditionalName, MissingModule

pytestmark = pytest.mark.every_python

Run = Callable[[str], dict[str, Any]]

LIBRARY = {
    "lib_optional/__init__.py": (
        "try:\n    import lib_missing\nexcept ImportError:\n    fast = False\n"
        "else:\n    fast = True\n"
    ),
    "lib_whole/__init__.py": "here = 1\n",
    "lib_whole/part.py": "",
    "lib_broken/__init__.py": "from lib_broken import part\nimport lib_missing\n",
    "lib_broken/part.py": "",
    "lib_raising/__init__.py": "1 / 0\n",
    "lib_lazy/__init__.py": "def __getattr__(name):\n    raise ImportError('gone since 2.0')\n",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run code as a cell does, with modules of the user next to it and with libraries installed."""
    site, beside = tmp_path / "site-packages", tmp_path / "beside"
    for name, text in LIBRARY.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    beside.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(beside))
    before = set(sys.modules)
    finders, importer = list(sys.meta_path), builtins.__import__

    def execute(text: str) -> dict[str, Any]:
        file = tmp_path / "cell.py"
        text = textwrap.dedent(text)
        file.write_text(text)
        linecache.checkcache(str(file))
        space: dict[str, Any] = {"__name__": "__main__", "image": lm.Image.debian_slim()}
        try:
            exec(compile(text, str(file), "exec", dont_inherit=True), space)
        finally:
            assert builtins.__import__ is importer
            assert sys.meta_path == finders
            assert not [name for name, one in sys.modules.items() if isinstance(one, MissingModule)]
        return space

    yield execute
    for name in set(sys.modules) - before:
        if name.startswith(("lib_", "own_")):
            del sys.modules[name]


def test_libraries_that_are_here_are_imported_as_without_the_block(run: Run) -> None:
    space = run(
        """
        with image.imports():
            import lib_optional
            import httpx, requests, fastapi, tqdm
            import json.decoder as decoder
        """
    )
    assert space["lib_optional"].fast is False
    assert space["lib_optional"] is sys.modules["lib_optional"]
    assert space["decoder"].__name__ == "json.decoder"
    assert mimetypes.guess_type("a.html") == ("text/html", None)


def test_what_is_not_here_is_a_stand_in_in_the_cell_alone(run: Run) -> None:
    space = run(
        """
        with image.imports():
            import lib_missing
            import lib_missing.deep.down
            import lib_missing.deep as deep
            from lib_missing.nn import Linear as L, functional
        """
    )
    assert repr(space["deep"].x) == "<lib_missing.deep.x, which only the image has>"
    assert space["L"].__name__ == "lib_missing.nn.Linear"
    assert space["lib_missing"].submodules == ("lib_missing.deep.down",)
    assert "lib_missing" not in sys.modules
    for use in (
        lambda: space["L"](3),
        lambda: bool(space["functional"]),
        lambda: isinstance(3, space["L"]),
        lambda: type("Net", (), {})() in space["functional"],
        lambda: types.new_class("Net", (space["L"],)),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"lib_missing\.nn\.\w+ is only in the image"):
            use()


def test_a_stand_in_is_good_for_annotations_and_copies(run: Run) -> None:
    space = run(
        """
        from dataclasses import dataclass
        with image.imports():
            from lib_missing import Tensor, Float
        @dataclass
        class Batch:
            x: Tensor
            y: Tensor | None = None
            z: Float[Tensor, "a b"] | None = None
        def f(x: None | Tensor, y: list[Tensor]) -> Tensor.Inner: ...
        """
    )
    assert typing.get_args(space["Batch"].__annotations__["y"])[0] == space["Tensor"]
    assert copy.deepcopy(space["Tensor"]) is space["Tensor"]
    assert space["f"].__annotations__["return"].__name__ == "lib_missing.Tensor.Inner"


def test_a_package_that_is_here_may_have_more_in_the_image(run: Run) -> None:
    space = run(
        """
        with image.imports():
            from lib_whole import here, newer
            import lib_whole.newest
            from lib_whole.newest import thing
            from lib_lazy import removed
        """
    )
    assert space["here"] == 1
    assert isinstance(space["newer"], MissingModule)
    assert space["lib_whole"].here == 1
    assert space["lib_whole"].submodules == ("lib_whole.newest",)
    assert isinstance(space["lib_whole"].newest.x, MissingModule)
    assert isinstance(space["thing"], MissingModule)
    assert isinstance(space["removed"], MissingModule)


def test_a_package_that_can_not_be_imported_here_is_a_stand_in_and_leaves_no_parts(
    run: Run,
) -> None:
    space = run("with image.imports():\n    import lib_broken\n")
    assert isinstance(space["lib_broken"], MissingModule)
    assert not [name for name in sys.modules if name.startswith("lib_broken")]


def test_other_exceptions_pass_and_leave_nothing(run: Run) -> None:
    with pytest.raises(ZeroDivisionError):
        run("with image.imports():\n    import lib_missing\n    import lib_raising\n")
    with pytest.raises(KeyError):
        run("with image.imports():\n    {}['x']\n")


@pytest.mark.parametrize(
    "text",
    [
        "from json import nope",
        "import json.nope",
        "import own_missing_name",
        "from own_plain import nope",
    ],
)
def test_a_mistake_in_an_argument_is_an_error_in_the_caller(run: Run, tmp_path: Path, text: str):
    (tmp_path / "beside" / "own_plain.py").write_text("")
    (tmp_path / "beside" / "own_missing_name.py").write_text("import json.nope\n")
    with pytest.raises(ImportError, match="nope"):
        run(f"with image.imports():\n    {text}\n")


def test_a_star_import_of_what_is_not_here_is_refused_by_name(run: Run) -> None:
    with pytest.raises(InvalidError, match=r"from lib_missing import \*"):
        run("with image.imports():\n    from lib_missing import *\n")
    assert run("with image.imports():\n    from lib_whole import *\n")["here"] == 1


def test_local_modules_are_the_user_s_own_code(run: Run, tmp_path: Path) -> None:
    package = tmp_path / "beside" / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import value, flag\n")
    (package / "inner.py").write_text(
        "import lib_missing\nvalue = lib_missing.x\n"
        "try:\n    import lib_other_missing\n    flag = True\n"
        "except ImportError:\n    flag = False\n"
    )
    space = run("with image.imports():\n    from own_package import value, flag\n")
    assert isinstance(space["value"], MissingModule)
    assert space["flag"] is False  # its file runs in the image, and decides there


def test_a_folder_that_a_library_has_made_is_not_the_library(run: Run, tmp_path: Path) -> None:
    (tmp_path / "beside" / "lib_missing").mkdir()
    space = run("with image.imports():\n    from lib_missing import init\n")
    assert isinstance(space["init"], MissingModule)


def test_a_try_statement_is_decided_in_the_image(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
        with image.imports():
            try:
                import lib_missing as fast
                FAST = True
            except ImportError:
                import json as fast
                FAST = False
            import lib_missing.plain
        """
    space = run(text)
    assert isinstance(space["fast"], ConditionalName)
    assert isinstance(space["FAST"], ConditionalName)
    assert not isinstance(space["lib_missing"], ConditionalName)
    with pytest.raises(ModuleNotFoundError, match="depends on the image"):
        bool(space["FAST"])
    monkeypatch.setattr(travel, "_handles", object())
    fast, flag = pickle.loads(pickle.dumps((space["fast"].dumps, space["FAST"])))
    assert (fast.__module__, flag) == ("json", False)


def test_a_try_statement_whose_imports_are_here_is_plain(run: Run) -> None:
    space = run(
        """
        with image.imports():
            try:
                from lib_whole import here
            except ImportError:
                here = None
        """
    )
    assert space["here"] == 1


def test_a_try_statement_that_reads_more_is_refused(run: Run) -> None:
    with pytest.raises(InvalidError, match="reads log from outside"):
        run(
            """
            log = print
            with image.imports():
                try:
                    import lib_missing
                except ImportError:
                    log("not here")
            """
        )


def test_a_name_that_the_image_leaves_unbound_is_an_error_on_use(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = run(
        """
        with image.imports():
            try:
                import lib_missing
                HAS = True
            except ImportError as error:
                HAS = bool([one for one in str(error) if False])
                def fallback(x): return x
        """
    )
    assert isinstance(space["HAS"], ConditionalName)
    assert not {"error", "one", "x"} & space.keys()
    monkeypatch.setattr(travel, "_handles", object())
    has, fallback, unbound = pickle.loads(
        pickle.dumps((space["HAS"], space["fallback"], space["lib_missing"]))
    )
    assert (has, fallback(3)) == (False, 3)
    with pytest.raises(NameError, match="'lib_missing' is not defined"):
        unbound.f()


def test_nested_blocks_and_other_threads_do_not_disturb_each_other(run: Run) -> None:
    failed: list[BaseException] = []

    def elsewhere() -> None:
        try:
            exec("import lib_missing", {"__name__": "__main__"})
        except ImportError as error:
            failed.append(error)

    inner = lm.Image.debian_slim().imports()
    with lm.Image.debian_slim().imports():
        with inner:
            import lib_missing as first
        import lib_missing as second

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert isinstance(first, MissingModule)
    assert first == second
    assert len(failed) == 1
    with pytest.raises(ModuleNotFoundError):
        import lib_missing  # noqa: F401


def test_a_digest_knows_what_a_stand_in_means(run: Run) -> None:
    def digest(imports: str) -> str:
        space = run(
            f"with image.imports():\n    {imports}\n"
            "def f(): return lib.x\n"
            "f.__module__ = '__main__'\n"
        )
        return of_function(space["f"]).digest

    assert digest("import lib_missing as lib") == digest("import lib_missing as lib")
    assert digest("import lib_missing as lib") != digest("import lib_missing.y as lib")
    guarded = "try: import lib_missing as lib\n    except ImportError: {}"
    assert digest(guarded.format("lib = 1")) == digest(guarded.format("lib = 1"))
    assert digest(guarded.format("lib = 1")) != digest(guarded.format("lib = 2"))


def test_in_a_container_the_block_is_plain(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(travel, "_handles", object())
    with pytest.raises(ModuleNotFoundError):
        run("with image.imports():\n    import lib_missing\n")


def test_what_is_found_there_is_what_the_statement_would_bind(run: Run) -> None:
    space = run(
        """
        with image.imports():
            from lib_whole import newer, part
            import lib_later.inner
            from lib_later import both
        """
    )
    site = Path(sys.modules["lib_whole"].__file__ or "").parents[1]
    (site / "lib_later").mkdir()
    (site / "lib_later" / "__init__.py").write_text("def both(): return 'attribute'\n")
    for name in ("inner", "both"):
        (site / "lib_later" / f"{name}.py").write_text("")
    assert pickle.loads(pickle.dumps(space["both"]))() == "attribute"
    package = pickle.loads(pickle.dumps(space["lib_later"]))
    assert package.inner is sys.modules["lib_later.inner"]
    with pytest.raises(ImportError, match="cannot import name 'newer' from 'lib_whole'"):
        pickle.loads(pickle.dumps(space["newer"]))
