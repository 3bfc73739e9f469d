"""Each orderly end is in the history as one, whatever writes into the folder as it is removed."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from lifecycle_magic.session import session

ROUNDS = 6

PLAIN = """
    import lifecycle_magic as lm

    app = lm.App("orderly")

    @app.cls()
    class Orderly:
        @lm.method()
        def hello(self):
            return 1

        @lm.exit()
        def close(self):
            pass
"""


@pytest.mark.slow
def test_orderly_ends_are_no_failures_in_the_history_of_any_session(engine_name: str) -> None:
    """The keeper writes the exit code while the kernel removes the folder. A folder that came
    back would be found by a later sweep, and reported as a failure.
    """
    current = session.current()
    before = len(current.history.entries())
    for _ in range(ROUNDS):
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(textwrap.dedent(PLAIN), space)
        assert space["Orderly"]().hello.remote() == 1
        containers = current.containers()
        space["app"].stop()
        session.wait_gone(containers)
    current.sweep_again()
    ends = current.history.entries()[before:]
    ours = [one for one in ends if one.cls == "Orderly"]
    assert [(one.state, len(one.hooks)) for one in ours] == [("exited", 1)] * ROUNDS
    left = [path.name for path in current.folder.iterdir() if "lm-" in path.name]
    assert not left
