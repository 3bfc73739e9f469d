"""What a session finds of sessions whose kernel is dead."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest
from conftest import BASE_IMAGE
from kernel.harness import Diary, own_kernel, preamble, subject

from lifecycle_magic.lifecycle.history import HistoryEntry
from lifecycle_magic.lifecycle.states import Notice
from lifecycle_magic.session import session

pytestmark = [pytest.mark.kernel]


def dead_session(
    root: Path, run_dir: str, engine: str, *, address: str | None = None, boot: str | None = None
) -> Path:
    """The folder of a session whose owner is gone, with one container's run folder in it."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as owner:
        stat = Path(f"/proc/{owner.pid}/stat").read_text()
        started = stat.rpartition(")")[2].split()[19]
    boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    folder = root / "run" / secrets.token_hex(4)
    (folder / run_dir).mkdir(parents=True)
    told = {"pid": owner.pid, "started": started, "boot": boot}
    (folder / "owner.json").write_text(json.dumps(told))
    card = {"cls": "Left", "engine": engine, "began": 1e9}
    card |= {"address": address} if address else {}
    (folder / f"card-{run_dir}.json").write_text(json.dumps(card))
    return folder


@pytest.mark.docker
def test_a_container_that_was_made_and_never_started_is_removed(
    need_docker: docker.DockerClient, tmp_path: Path, state_dir: Path
) -> None:
    name = f"lm-left-{secrets.token_hex(4)}"
    folder = dead_session(state_dir, name, "docker")
    made = need_docker.containers.create(
        BASE_IMAGE, name=name, labels={"lifecycle-magic.role": "container"}
    )
    try:
        with own_kernel(tmp_path / "tmp") as kernel:
            [entry] = [one for one in kernel.history("Left") if one["container"] == name]
        assert entry["why"] == "its kernel exited before the container was ready; no hook had run"
        with pytest.raises(docker.errors.NotFound):
            made.reload()
        assert not folder.exists()
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            made.remove(force=True)


@pytest.mark.docker
def test_a_user_hears_nothing_of_an_engine_that_only_the_sweep_asked(
    need_docker: docker.DockerClient, state_dir: Path
) -> None:
    dead_session(state_dir, f"lm-left-{secrets.token_hex(4)}", "docker")
    one = session.Session()
    notices: list[str] = []
    one.bus.subscribe(lambda event: notices.append(event.text), [Notice])
    one.sweep_again()
    assert one.uses_engine("docker")
    assert notices == []
    one.engine("docker")
    one.engine("docker")
    assert [notice.partition(" ")[0] for notice in notices] == ["engine:"]
    one.close("the test is over")


@pytest.mark.process
def test_a_machine_that_went_down_under_a_container_is_told(
    need_bwrap: str, tmp_path: Path, state_dir: Path
) -> None:
    diary = Diary(tmp_path / "out")
    with own_kernel(tmp_path / "tmp") as kernel:
        kernel.run(preamble("process", diary) + subject("PowerLoss", 0))
        kernel.run("PowerLoss().hello.remote(1)", timeout=120)
        where = kernel.container()
        os.kill(kernel.pid, 19)  # stopped, it notices nothing
        where.kill()
        kernel.kill()
    with own_kernel(tmp_path / "later") as later:
        entry = later.describe_end("PowerLoss", where)
    assert entry["state"] == "failed"
    assert entry["why"].startswith("its exit did not finish: it was killed, or")
    assert diary.events() == ["entered"]
    assert where.leftovers(state_dir) == []
    assert not where.folder.exists()


def test_a_session_that_lives_is_left_alone(
    need_docker: object, tmp_path: Path, state_dir: Path
) -> None:
    diary = Diary(tmp_path / "out")
    with own_kernel(tmp_path / "tmp") as kernel, own_kernel(tmp_path / "other") as other:
        kernel.run(preamble("docker", diary) + subject("Alive", 0))
        kernel.run("Alive().hello.remote(1)", timeout=120)
        assert other.history("Alive") == []
        assert kernel.container().folder.exists()
        assert kernel.run("print(Alive().hello.remote(5))").strip() == "5"
        kernel.run("app.stop()")


def swept(container: str) -> list[HistoryEntry]:
    """What this process's history has of a container, after it looked."""
    current = session.current()
    current.sweep_again()
    return [one for one in current.history.entries() if one.container == container]


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Docker is asked for where none is."""
    session.close("it may know an engine that answers")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    yield
    session.close("the test is over")


REPORT = {
    "container": "lm-left",
    "orderly": True,
    "entered": True,
    "why": "the kernel is gone",
    "killed": None,
    "exit_code": 0,
}


def test_what_an_engine_knows_that_can_not_be_reached_is_told_later(
    no_engine: None, state_dir: Path
) -> None:
    name = f"lm-left-{secrets.token_hex(4)}"
    folder = dead_session(state_dir, name, "docker")
    assert swept(name) == []
    (folder / name / "report.json").write_text(json.dumps(REPORT | {"container": name}))
    [entry] = swept(name)
    assert (entry.state, entry.why) == ("exited", "the kernel is gone")
    assert not folder.exists()


def test_what_ran_before_the_machine_went_down_needs_no_engine(
    no_engine: None, state_dir: Path
) -> None:
    name = f"lm-left-{secrets.token_hex(4)}"
    folder = dead_session(state_dir, name, "docker", boot="another")
    (folder / name / "log").touch()
    [entry] = swept(name)
    assert entry.why.startswith("its exit did not finish")
    assert not folder.exists()


@pytest.mark.docker
def test_another_engine_is_not_asked_in_the_place_of_the_one_that_knows(
    need_docker: object, state_dir: Path
) -> None:
    name = f"lm-left-{secrets.token_hex(4)}"
    folder = dead_session(state_dir, name, "docker", address="unix:///elsewhere")
    try:
        assert swept(name) == []
        assert (folder / name).exists()
        (folder / name / "report.json").write_text(json.dumps(REPORT | {"container": name}))
        assert [one.state for one in swept(name)] == ["exited"]
    finally:
        session.close("the test is over")


LATE = """
    @lm.exit()
    def later(self):
        while os.path.exists(OUT + "/hold"):
            time.sleep(0.02)
"""


def test_an_exit_that_ran_when_the_next_kernel_came_is_told_when_it_is_over(
    engine: str, tmp_path: Path, state_dir: Path
) -> None:
    diary = Diary(tmp_path / "out")
    name = f"Late{engine.title()}"
    with own_kernel(tmp_path / "tmp") as kernel, own_kernel(tmp_path / "later") as later:
        kernel.run(preamble(engine, diary) + subject(name, 0) + LATE)
        kernel.run(f"{name}().hello.remote(1)", timeout=120)
        (diary.folder / "hold").touch()
        where = kernel.container()
        kernel.kill()
        diary.wait("exit begun")
        later.run("%load_ext lifecycle_magic")
        assert name not in later.run("%lifecycle history")
        (diary.folder / "hold").unlink()
        where.wait_gone(state_dir)
        assert where.name not in later.run(
            "print(get_ipython().run_line_magic('lifecycle', 'ps --all'))"
        )
        assert "later()  ok" in later.run("%lifecycle history").partition(name)[2]
