"""Which pages may have a browser send requests to an endpoint."""

from __future__ import annotations

import pytest

from lifecycle_magic.web.origins import is_foreign

HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]", "lab.example.org"})
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-user": "?1"}
FORM = LINK | {"origin": "http://evil.example:80"}


@pytest.mark.parametrize(
    ("method", "headers", "foreign"),
    [
        ("GET", {}, False),  # curl
        ("POST", {"origin": "http://evil.example"}, True),
        ("POST", {"origin": "null"}, True),
        ("POST", {"origin": "file://"}, True),
        ("POST", {"origin": "http://[bad"}, True),
        ("GET", {"origin": "http://localhost.evil.example"}, True),
        ("GET", {"origin": "http://localhost:8888"}, False),
        ("GET", {"origin": "http://[::1]:8888", "sec-fetch-site": "cross-site"}, False),
        ("GET", {"origin": "https://lab.example.org", "sec-fetch-site": "same-origin"}, False),
        ("GET", {"origin": "https://ok.example", "sec-fetch-site": "cross-site"}, False),  # cors
        ("GET", {"sec-fetch-site": "same-origin"}, False),
        ("GET", {"sec-fetch-site": "none"}, False),  # typed by the user
        ("GET", {"sec-fetch-site": "cross-site", **LINK}, False),
        ("GET", {"sec-fetch-site": "same-site", **LINK}, False),
        ("POST", {"sec-fetch-site": "cross-site", **LINK}, True),
        ("POST", {"sec-fetch-site": "cross-site", **FORM}, True),
        ("GET", {"sec-fetch-site": "cross-site", **LINK, "sec-fetch-user": ""}, True),
        ("GET", {"sec-fetch-site": "same-site", **LINK, "sec-fetch-dest": "iframe"}, True),
        (
            "GET",
            {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
            True,
        ),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "websocket"}, True),
    ],
)
def test_the_page_decides(method: str, headers: dict[str, str], foreign: bool) -> None:
    told = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert is_foreign(method, told, HOSTS, ("https://ok.example",)) is foreign


@pytest.mark.parametrize("origin", ["https://hub.example", "https://evil.example"])
def test_where_any_name_is_allowed_the_page_is_of_the_name_that_was_asked_for(origin: str) -> None:
    told = [(b"host", b"hub.example"), (b"origin", origin.encode())]
    assert is_foreign("GET", told, None, ()) is (origin != "https://hub.example")
    assert not is_foreign("GET", told, None, ("*",))
