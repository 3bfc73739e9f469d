"""What a Docker container is kept from, seen from inside: processes without bound, and zombies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from engine.hardening import declare
from kernel.harness import wait_for

import lifecycle_magic as lm
from lifecycle_magic.session import session

pytestmark = pytest.mark.docker


@pytest.fixture
def looking(need_docker: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "docker")
    with lm.App("hardening").run() as app:
        yield declare(app)
    session.close("the test is over")


def test_the_number_of_processes_is_limited(looking: Any) -> None:
    assert 0 < int(looking().limit_of_processes.remote()) <= 100_000


def test_a_process_without_parent_is_buried_by_the_first(looking: Any) -> None:
    one = looking()
    one.orphan.remote()
    wait_for(lambda: one.zombies.remote() == 0, "the end of the last zombie")
