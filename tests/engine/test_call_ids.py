"""The id that a method knows of its call, and what other code does with it."""

from __future__ import annotations

from typing import Any

import pytest
from engine.work import Folder, Site

import lifecycle_magic as lm
from lifecycle_magic.exception import InputCancelled, InvalidError, NotFoundError

pytestmark = pytest.mark.process


@pytest.fixture
def model(site: Site) -> Any:
    folder = site.folder.path

    @site.app.cls(max_containers=2, volumes={folder: lm.Volume.from_path(folder)})
    class Model:
        @lm.method()
        def hold(self, ids: Any) -> str:
            ids.put(lm.current_function_call_id())
            Folder(folder).wait("go")
            return "held"

        @lm.method()
        def collect(self, id: str) -> Any:
            return lm.FunctionCall.from_id(id).get()

        @lm.method()
        def cancel(self, id: str) -> None:
            lm.FunctionCall.from_id(id).cancel()

        @lm.method()
        async def cancel_later(self, id: str) -> None:
            await lm.FunctionCall.from_id(id).cancel.aio()

        @lm.method()
        def own(self) -> Any:
            return lm.FunctionCall.from_id(lm.current_function_call_id()).get()

    return Model()


def test_a_call_that_runs_is_found_by_the_id_that_its_method_knows(model: Any, site: Site) -> None:
    with lm.Queue.ephemeral() as ids:
        model.hold.spawn(ids)  # no code keeps the call, or asks for its id
        id = ids.get()
        here = lm.FunctionCall.from_id(id)
        inside = model.collect.spawn(id)
        assert not here.done()
        site.folder.note("go")
        assert [here.get(), inside.get(), lm.FunctionCall.from_id(id).get()] == ["held"] * 3


@pytest.mark.parametrize("cancel", ["cancel", "cancel_later"])
def test_a_call_that_no_session_keeps_can_not_be_cancelled(
    model: Any, site: Site, cancel: str
) -> None:
    with lm.Queue.ephemeral() as ids:
        held = model.hold.spawn(ids)
        getattr(model, cancel).remote(ids.get())
        with pytest.raises(InputCancelled):
            held.get()
        site.folder.note("go")
        assert model.hold.remote(ids) == "held"
        with pytest.raises(NotFoundError, match=r"by \.remote\(\).*Fix: start the call"):
            getattr(model, cancel).remote(ids.get())


def test_a_call_that_waits_for_itself_is_refused(model: Any) -> None:
    with pytest.raises(InvalidError, match=r"would wait for itself forever.*Fix: "):
        model.own.spawn().get()
