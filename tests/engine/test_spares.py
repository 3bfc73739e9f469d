"""With ``buffer_containers`` a new version finds a container that only has to load the class."""

from __future__ import annotations

from typing import Any

import pytest
from kernel.harness import wait_for

from lifecycle_magic.calls import sync
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.decorators.hooks import enter, exit, method
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.lifecycle.history import History
from lifecycle_magic.lifecycle.states import State
from lifecycle_magic.services.service import Change, Service
from lifecycle_magic.session import session
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class


def declared(version: int, **options: Any) -> ClassSpec:
    class Model:
        @enter()
        def load(self) -> None:
            self.version = version

        @method()
        def get(self) -> int:
            return self.version

        @exit()
        def close(self) -> None:
            print(f"closing {self.version}")

    return read_class(Model, Options.make("Model", **options))


@pytest.fixture
def service(engine_name: str) -> Any:
    current = session.current()
    made = current.services.setdefault("test/Model", Service(current, "Model"))
    yield made
    session.close("the test is over")


def get(service: Service) -> Any:
    return sync.call(service.open_pool((), {}), "get", (), {})


def spare_of(service: Service) -> Any:
    """The spare, once its preparation is through."""
    return wait_for(lambda: service._launcher.spare.container, "a spare that is ready")


def test_a_new_version_adopts_the_spare(service: Service) -> None:
    assert service.deploy(declared(1, buffer_containers=1)) is Change.NEW
    assert get(service) == 1
    spare = spare_of(service)
    assert spare.state is State.STARTING
    assert service.deploy(declared(2, buffer_containers=1)) is Change.REPLACED
    assert get(service) == 2
    assert spare.name in [container.name for container in service.containers()]
    assert spare.state is State.IDLE


def test_a_spare_for_another_launch_is_not_taken(service: Service) -> None:
    service.deploy(declared(1, buffer_containers=1))
    get(service)
    spare = spare_of(service)
    service.deploy(declared(1, buffer_containers=1, env={"OTHER": "1"}))
    assert get(service) == 1
    assert spare.plan.setup.cls == b""
    assert spare.exited.wait(20), "it is dismissed when there is a better one"


def test_an_unused_spare_leaves_no_trace(service: Service) -> None:
    service.deploy(declared(1, buffer_containers=1))
    get(service)
    spare = spare_of(service)
    run_dir = spare.plan.launch.run_dir
    history = History(service.session.root)
    session.close("the session ends")
    assert spare.state is State.EXITED
    assert not run_dir.exists()
    assert spare.name not in [entry.container for entry in history.entries()]


def test_a_spare_that_was_killed_is_no_error(service: Service) -> None:
    service.deploy(declared(1, buffer_containers=1))
    get(service)
    spare = spare_of(service)
    spare.end(Ending(EndKind.KILL, "the test kills it"), wait=True)
    assert spare.exited.wait(20)
    service.deploy(declared(2, buffer_containers=1))
    assert get(service) == 2


def test_without_buffer_containers_there_is_none(service: Service) -> None:
    service.deploy(declared(1))
    assert get(service) == 1
    assert len(service.containers()) == 1


def test_a_refused_launch_is_raised_by_the_call(service: Service) -> None:
    with pytest.raises(InvalidError):
        declared(1, buffer_containers=-1)
