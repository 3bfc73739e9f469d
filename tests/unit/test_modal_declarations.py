"""Declarations that Modal accepts, read without a container."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from handle_state import spec_of

import lifecycle_magic as lm
from lifecycle_magic.callers import many_calls as maps
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.session import session
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class, read_function


def test_a_parameter_that_enter_sets_needs_no_default_and_is_no_argument() -> None:
    @lm.App().cls()
    class Model:
        size: int = lm.parameter(default=2)
        weights: list[int] = lm.parameter(init=False)
        never: int = lm.parameter(init=False)

        @lm.enter()
        def load(self) -> None:
            self.weights = [self.size]

        @lm.method()
        def get(self) -> int:
            return 1

    assert Model(size=3).size == 3
    for name in ("weights", "never"):
        with pytest.raises(AttributeError, match=rf"{name} is set while the instance runs"):
            getattr(Model(), name)
    with pytest.raises(InvalidError, match="weights"):
        Model(weights=[1])


def test_methods_without_a_decorator_make_a_class_that_runs_in_this_process() -> None:
    @lm.App().cls()
    class Plain:
        def __init__(self, size: int = 2) -> None:
            self.size = size

        def double(self, x: int) -> int:
            return self.size * x

    model: Any = Plain(size=3)
    assert model.double.local(4) == 12
    with pytest.raises(InvalidError, match=r"add @lm.method\(\) above def double"):
        model.double.remote(4)
    with pytest.raises(InvalidError, match=r"add @lm.method\(\) above def double"):
        model.double(4)
    assert read_class(Plain.__wrapped__).methods == {}  # type: ignore[attr-defined]


def test_a_function_says_that_it_returns_a_generator() -> None:
    def count(n: int) -> Iterator[int]:
        return iter(range(n))

    assert not read_function(count).methods["call"].is_generator
    assert read_function(count, is_generator=True).methods["call"].is_generator
    # the same function once more, as when an app is declared twice
    assert read_function(count, is_generator=True).methods["call"].is_generator
    with pytest.raises(InvalidError, match=r"@app.function\(is_generator="):
        lm.App(is_generator=True)  # type: ignore[call-arg]


def test_an_app_lists_what_is_declared_in_it() -> None:
    app = lm.App("listed")

    @app.cls()
    class Model:
        @lm.method()
        def get(self) -> int:
            return 1

        @lm.fastapi_endpoint()
        def page(self) -> str:
            return "x"

    @app.function(name="other")
    def function() -> int:
        return 1

    @app.function()
    @lm.fastapi_endpoint()
    def site() -> str:
        return "x"

    assert app.registered_classes == {"Model": Model}
    assert list(app.registered_functions) == ["other", "site"]
    assert app.registered_functions["other"].local() == 1
    assert app.registered_web_endpoints == ["Model.page", "site"]


def test_the_id_of_an_app_is_its_own_in_a_session() -> None:
    session.close("the test begins")
    one, other = lm.App("one"), lm.App("other")
    assert one.app_id is None
    try:
        session.current()
        assert one.app_id == lm.App("one").app_id
        assert str(one.app_id).startswith("ap-")
        assert one.app_id != other.app_id
    finally:
        session.close("the test is over")
    assert one.app_id is None


def test_secrets_and_volumes_of_an_app_are_added_to_those_of_its_classes() -> None:
    one, other = lm.Secret.from_dict({"A": "1"}), lm.Secret.from_dict({"B": "2"})
    data, models = lm.Volume.from_name("data"), lm.Volume.from_name("models")
    image = lm.Image.debian_slim().env({"C": "3"})
    app = lm.App("whole", image=image, secrets=[one], volumes={"/data/": data, "/models": data})

    @app.function(secrets=[other], volumes={"/models": models}, image=None)
    def both() -> int:
        return 1

    @app.cls(secrets=None, volumes={})
    class Model:
        @lm.method()
        def get(self) -> int:
            return 1

    options = spec_of(both).options
    assert (options.secrets, options.image) == ((one, other), image)
    assert options.volumes == {"/data": data, "/models": models}
    options = spec_of(Model).options
    assert (options.secrets, options.volumes) == ((one,), {"/data": data, "/models": data})
    with pytest.raises(InvalidError, match=r"wrong: secrets must be a list"):
        app.function(name="wrong", secrets=other)(nothing)  # type: ignore[arg-type]


def nothing() -> None: ...


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_old_option_may_say_the_same_as_the_new_one() -> None:
    options = Options.make("f", max_inputs=1, single_use_containers=True, keep_warm=2)
    assert (options.single_use_containers, options.min_containers) == (True, 2)
    with pytest.raises(InvalidError, match="both are given"):
        Options.make("f", keep_warm=1, min_containers=2)
    with pytest.raises(InvalidError, match="mounts= is a list of Mount objects"):
        Options.make("f", mounts=...)


def test_a_path_in_an_image_may_be_a_path_object() -> None:
    image = lm.Image.debian_slim().workdir("/work")
    [_, file, folder] = (
        image.add_local_file(__file__, PurePosixPath("/a/b.py"))  # type: ignore[arg-type]
        .add_local_dir(Path(__file__).parent, PurePosixPath("data"))  # type: ignore[arg-type]
        .steps
    )
    assert (file.remote, folder.remote) == ("/a/b.py", "/work/data")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: lm.App().include(5), "App.include takes an App"),  # type: ignore[arg-type]
        (lambda: lm.App().local_entrypoint()(5), "goes above a def"),  # type: ignore[type-var]
        (lambda: lm.Image.debian_slim().workdir(5), "takes an absolute path"),  # type: ignore[arg-type]
        (lambda: lm.App().app, "use the App itself"),  # type: ignore[attr-defined]
        (lambda: lm.Volume.from_name("x").put, "batch_upload"),  # type: ignore[attr-defined]
    ],
)
def test_a_mistake_is_one_error_of_ours(use: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        use()


def test_an_input_of_starmap_that_is_no_tuple_is_named() -> None:
    with pytest.raises(TypeError, match="got the input 3, which is no tuple of arguments"):
        list(maps._starmap([(1,), 3]).inputs())
