"""Declarations of methods that answer HTTP, and the mistakes in them."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.decorators.endpoints import (
    asgi_app,
    fastapi_endpoint,
    web_endpoint,
    web_server,
    wsgi_app,
)
from lifecycle_magic.decorators.marks import WebMarks, marks_of
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.spec.reading import read_class


def marks(fn: Any) -> WebMarks:
    found = marks_of(fn)
    assert found is not None
    assert found.web is not None
    return found.web


@pytest.mark.parametrize("decorator", [fastapi_endpoint, asgi_app, wsgi_app])
def test_parentheses_make_no_difference(decorator: Any) -> None:
    def one() -> None: ...
    def two() -> None: ...

    assert marks(decorator(one)) == marks(decorator()(two))
    assert marks(one).kind == decorator.__name__


def test_web_endpoint_is_the_older_name() -> None:
    assert web_endpoint is fastapi_endpoint
    assert lm.web_endpoint is lm.fastapi_endpoint


def test_printed_lines_are_kept() -> None:
    @fastapi_endpoint(
        method="post", label="my-label", docs=True, requires_proxy_auth=True, cors=["https://a.b:8"]
    )
    def store(self: Any) -> None: ...

    assert marks(store) == WebMarks(
        "fastapi_endpoint",
        method="POST",
        label="my-label",
        docs=True,
        requires_proxy_auth=True,
        cors=("https://a.b:8",),
    )

    @web_server(8000, startup_timeout=2)
    def serve() -> None: ...

    assert (marks(serve).port, marks(serve).startup_timeout) == (8000, 2.0)
    assert marks(serve).is_factory


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: fastapi_endpoint(method="FETCH"), "method='FETCH' must be one of GET, POST"),
        (lambda: fastapi_endpoint(label="Not This"), "small letters, digits and inner hyphens"),
        (lambda: fastapi_endpoint(label="-no"), "small letters"),
        (lambda: fastapi_endpoint(label="a" * 64), "at most 63"),
        (lambda: fastapi_endpoint(cors="example.org"), 'write "https://example.org"'),
        (lambda: asgi_app(cors=["https://example.org/path"]), "without a path"),
        (lambda: asgi_app(docs=True), "docs"),
        (lambda: fastapi_endpoint(metod="GET"), "metod"),
        (lambda: web_server(lambda self: None), r"write @web_server\(8000\)"),
        (lambda: web_server("8000"), "whole number from 1 to 65535"),
        (lambda: web_server(0), "whole number"),
        (lambda: web_server(70000), "whole number"),
        (lambda: web_server(True), "whole number"),
        (lambda: web_server(80, startup_timeout=0), "seconds above 0"),
        (lambda: web_server(80, startup_timeout="5"), "seconds above 0"),
    ],
)
def test_a_wrong_option_is_refused_at_once(make: Any, told: str) -> None:
    with pytest.raises(InvalidError, match=told):
        make()


def declare(*decorators: Any, source: str = "def answer(self): ...") -> None:
    space: dict[str, Any] = {}
    exec(source, space)
    fn = space["answer"]
    fn.__qualname__ = "Model.answer"
    for decorator in decorators:
        fn = decorator(fn)
    read_class(type("Model", (), {"answer": fn, "__module__": "__main__"}))


@pytest.mark.parametrize(
    ("decorators", "source", "told"),
    [
        ((lm.method(), fastapi_endpoint()), "def answer(self): ...", "exclude each other"),
        ((fastapi_endpoint(), lm.method()), "def answer(self): ...", "exclude each other"),
        ((lm.enter(), asgi_app()), "def answer(self): ...", "exclude each other"),
        ((fastapi_endpoint(), asgi_app()), "def answer(self): ...", "@asgi_app and @fastapi_end"),
        (
            (fastapi_endpoint(), lm.batched(max_batch_size=2, wait_ms=1)),
            "def answer(self, x): ...",
            "exclude each other",
        ),
        ((fastapi_endpoint(),), "def answer(self):\n yield 1", "StreamingResponse"),
        ((asgi_app(),), "def answer(self, request): ...", "needs request"),
        ((web_server(80),), "def answer(self, *, port): ...", "needs port"),
        ((wsgi_app(),), "def answer(self):\n yield 1", "generator"),
    ],
)
def test_a_wrong_method_is_refused_by_name(decorators: Any, source: str, told: str) -> None:
    with pytest.raises(InvalidError, match=told) as refused:
        declare(*decorators, source=source)
    assert "answer" in str(refused.value)


def test_a_factory_may_have_defaults() -> None:
    declare(asgi_app(), source="def answer(self, debug=False): ...")


def test_where_uvicorn_is_missing_the_address_says_how_to_get_it(tmp_path: Any) -> None:
    program = """
import sys
sys.modules["uvicorn"] = None
import lifecycle_magic as lm
app = lm.App(engine="process")
class Model:
    @lm.fastapi_endpoint()
    def predict(self): ...
try:
    app.cls(Model)().predict.get_web_url()
except lm.exception.InvalidError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert re.search(
        r"Model\.predict answers HTTP.*uvicorn is not .*Fix: pip install 'lifecycle-magic\[web\]'",
        ran.stdout,
    )
