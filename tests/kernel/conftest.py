"""What tests that use kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernel.harness import event_loop_of_this_thread


@pytest.fixture(scope="module", autouse=True)
def event_loop() -> Iterator[None]:
    """Close the event loop that `jupyter_client` opens on the main thread."""
    with event_loop_of_this_thread():
        yield
