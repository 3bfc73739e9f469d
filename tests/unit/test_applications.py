"""Web applications in a class: which objects count as one, and the release they come from."""

from __future__ import annotations

import pickle
import threading
from importlib import metadata

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPBearer
from flask import Blueprint, Flask
from starlette.applications import Starlette

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.guest import library_versions
from lifecycle_magic.services.web_applications import (
    ApplicationReleases,
    is_application,
    reduce_with_new_locks,
)


class Own(FastAPI):
    pass


def test_applications_and_their_parts_with_routes_are_known() -> None:
    for one in (FastAPI(), Own(), APIRouter(), Starlette(), Flask("a"), Blueprint("a", "b")):
        assert is_application(one)
    for other in (FastAPI, HTTPBearer(), Depends(print), print, object(), "FastAPI"):
        assert not is_application(other)


def test_the_releases_are_compared_where_they_arrive() -> None:
    releases = ApplicationReleases()
    assert not releases
    releases.add(Own(), "web")
    needed = pickle.loads(pickle.dumps(releases))
    assert needed["fastapi"] == metadata.version("fastapi")
    with pytest.raises(InvalidError, match=r"web was made in the kernel with fastapi 0\.1\.0"):
        library_versions.check({"fastapi": "0.1.0"}, ("web",))
    with pytest.raises(InvalidError, match="the image has no lifecycle-absent"):
        library_versions.check({"lifecycle-absent": "1.0"}, ("web",))


def test_a_patch_is_no_other_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_versions, "installed", lambda _: "0.110.3")
    assert library_versions.check({"fastapi": "0.110.1"}, ("web",))


def _root() -> None:
    """A route that every Python has a signature of."""


def test_locks_of_a_library_s_own_arrive_as_new_ones() -> None:
    app, router = FastAPI(), APIRouter()
    router.add_api_route("/", _root)
    app.include_router(router)
    holders = [one for one in app.router.routes if reduce_with_new_locks(one) is not None]
    for one in holders:  # releases of FastAPI without such a lock have none
        make, arguments, state = reduce_with_new_locks(one) or ()
        copy = make(*arguments)
        copy.__dict__.update(pickle.loads(pickle.dumps({k: _plain(v) for k, v in state.items()})))
        locks = [name for name, value in vars(one).items() if hasattr(value, "acquire")]
        assert all(vars(copy)[name].acquire(blocking=False) for name in locks)
        assert locks
    assert reduce_with_new_locks(threading.local()) is None


def _plain(value: object) -> object:
    """The value, or a mark where it is no lock that travels as a new one."""
    return value if type(value).__name__ == "_NewLock" else None
