"""A session that ends between the look at its record and the connection to it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_magic.exception import NotFoundError
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import private_folder, state_root
from lifecycle_magic.host.served_names import FOLDER, Served
from lifecycle_magic.named.reach import Name
from lifecycle_magic.peers import sessions as peer_sessions
from lifecycle_magic.peers.connection import PeerConnection, Unreachable
from lifecycle_magic.session import session
from lifecycle_magic.wire.frame_header import PROTOCOL
from lifecycle_magic.wire.python_versions import python_minor

SESSION = """
import sys
from pathlib import Path
from lifecycle_magic.host.owner import Owner
Owner.me().write(Path(sys.argv[1]))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder() -> Path:
    found = private_folder(state_root() / "run" / "ending")
    private_folder(found / FOLDER)
    return found


@pytest.fixture
def process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", SESSION, str(folder / "owner.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"written\n"
        yield one


def test_a_session_that_does_not_answer_any_more_is_looked_up_again(
    folder: Path, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner.read(folder / "owner.json")
    assert owner is not None
    names = {"ending": {"Model": "class"}}
    served = Served("ending", folder, owner, "test", PROTOCOL, python_minor(), time.time(), names)
    served.write()  # there is no socket: the process is on its way out
    tries: list[str] = []

    def connect(one: Served) -> PeerConnection:
        tries.append(one.session)
        try:
            return peer_connect(one)
        except Unreachable:
            process.kill()
            process.wait()
            raise

    peer_connect = peer_sessions.connect
    monkeypatch.setattr(peer_sessions, "connect", connect)
    with pytest.raises(NotFoundError, match="no session of this user serves ending/Model"):
        peer_sessions.Sessions().reach(Name("ending", "Model"))
    assert tries == ["ending"]
    assert peer_sessions.Sessions().of_id("ending") is None


def test_a_session_ends_although_its_sweep_waits_for_an_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = threading.Event()

    def sweep(root: Path, engines: object) -> dict[Path, Exception]:
        assert answers.wait(60)
        return {}

    monkeypatch.setattr(session, "sweep", sweep)
    monkeypatch.setattr(session, "_SWEEP_SECONDS", 0.01)
    made = session.Session()
    assert made.close("the test is over") == []
    assert not answers.is_set()
    assert not made.folder.exists()
    answers.set()
    made._sweeper.join()
