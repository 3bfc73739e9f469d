"""The bubblewrap command line and the parts of the host in it. Nothing is run except `probe`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifecycle_magic.engines.process import sandbox
from lifecycle_magic.engines.process.sandbox import Bind, Sandbox, command_line
from lifecycle_magic.gpus.device import Gpu
from lifecycle_magic.ui import machine_checks


def _box(**changes: object) -> Sandbox:
    return Sandbox(**{"root": "/i/root", "workdir": "/root", "hostname": "model", **changes})  # type: ignore[arg-type]


def _pairs(line: list[str], option: str) -> list[tuple[str, str]]:
    return [(line[at + 1], line[at + 2]) for at, word in enumerate(line) if word == option]


def test_the_snapshot_is_the_root_and_the_first_mount() -> None:
    line = command_line("bwrap", _box(), ["true"], host=(Bind("/usr", "/usr"),))
    assert line[1:4] == ["--bind", "/i/root", "/"]
    assert line.index("--ro-bind") > 1


def test_system_folders_are_read_only_and_volumes_writable() -> None:
    box = _box(binds=(Bind("/v/weights", "/weights", "rw"),))
    line = command_line("bwrap", box, ["true"], host=(Bind("/usr", "/usr"),))
    assert ("/usr", "/usr") in _pairs(line, "--ro-bind")
    assert ("/v/weights", "/weights") in _pairs(line, "--bind")


def test_binds_below_run_come_after_the_fresh_run_folder() -> None:
    box = _box(binds=(Bind("/state/run/x", sandbox.RUN, "rw"),))
    line = command_line("bwrap", box, ["true"], late=(Bind("/run/systemd", "/run/systemd"),))
    assert line.index("/run") < line.index("/run/systemd") < line.index(sandbox.RUN)


def test_the_command_comes_last_and_can_not_become_an_option() -> None:
    line = command_line("bwrap", _box(), ["--bind", "/", "/"])
    assert line[-4:] == ["--", "--bind", "/", "/"]


def test_the_supervisor_is_pid_1_of_its_own_session() -> None:
    line = command_line("bwrap", _box(), ["true"])
    assert {"--unshare-pid", "--as-pid-1", "--new-session"} <= set(line)
    assert "--die-with-parent" not in line


@pytest.mark.parametrize("blocked", [True, False])
def test_only_a_blocked_network_is_unshared(blocked: bool) -> None:
    line = command_line("bwrap", _box(block_network=blocked), ["true"])
    assert ("--unshare-net" in line) is blocked


def test_root_keeps_only_what_installs_need() -> None:
    line = command_line("bwrap", _box(), ["true"], privileged=True)
    assert line[line.index("--cap-drop") + 1] == "ALL"
    kept = {line[at + 1] for at, word in enumerate(line) if word == "--cap-add"}
    assert "CAP_CHOWN" in kept
    assert not kept & {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_MKNOD"}


def test_an_ordinary_user_asks_for_no_capability() -> None:
    assert not {"--cap-drop", "--cap-add"} & set(command_line("bwrap", _box(), ["true"]))


def test_shm_size_is_sent_in_bytes() -> None:
    line = command_line("bwrap", _box(shm_size=64), ["true"])
    assert line[line.index("--size") + 1] == str(64 * 1024 * 1024)
    assert line.index("/dev") < line.index("/dev/shm")


def test_a_python_in_a_home_folder_is_bound_where_it_lies(tmp_path: Path) -> None:
    binds = sandbox.host_binds([str(tmp_path)])
    assert Bind(str(tmp_path), str(tmp_path)) in binds


def test_a_python_behind_a_link_is_bound_under_both_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    paths = {bind.path for bind in sandbox.host_binds([str(tmp_path / "linked")])}
    assert {str(tmp_path / "real"), str(tmp_path / "linked")} <= paths


def test_what_lies_in_a_system_folder_is_not_bound_again() -> None:
    assert [bind.path for bind in sandbox.host_binds(["/usr", "/usr/local"])].count("/usr") == 1
    assert "/usr/local" not in {bind.path for bind in sandbox.host_binds(["/usr/local"])}


def test_the_whole_host_is_never_bound() -> None:
    assert "/" not in {bind.path for bind in sandbox.host_binds(["/"])}


def test_links_of_the_hosts_root_are_made_in_the_snapshot(tmp_path: Path) -> None:
    sandbox.prepare_root(tmp_path)
    sandbox.prepare_root(tmp_path)  # a second instance of a committed snapshot finds them there
    for name in ("bin", "lib", "sbin"):
        if os.path.islink(f"/{name}"):
            assert os.readlink(tmp_path / name) == os.readlink(f"/{name}")
    assert (tmp_path / "tmp").stat().st_mode & 0o1777 == 0o1777


def test_a_sandbox_has_the_device_files_of_its_own_gpus_alone(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "sda", "kfd"):
        (tmp_path / name).touch()
    card = Gpu("GPU-a", 1, nodes=(str(tmp_path / "nvidia1"), str(tmp_path / "missing")))
    assert sandbox.gpu_devices([], tmp_path) == ()
    found = sandbox.gpu_devices([card], tmp_path)
    assert [Path(bind.path).name for bind in found] == ["nvidia-uvm", "nvidia1", "nvidiactl"]
    assert {bind.mode for bind in found} == {"dev"}


@pytest.mark.parametrize("path", ["/", "/usr", "/etc/app", "/proc", sandbox.VENV, sandbox.RUN])
def test_a_volume_can_not_hide_what_the_sandbox_needs(path: str) -> None:
    assert sandbox.reserved(path)


@pytest.mark.parametrize("path", ["/weights", "/root/data", "/opt/data", "/usrdata", "/var/lib/x"])
def test_a_volume_goes_anywhere_else(path: str) -> None:
    assert not sandbox.reserved(path)


def test_a_machine_without_bubblewrap_is_asked_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    probed = sandbox.probe()
    assert probed.path is None
    assert probed.detail == "bubblewrap (bwrap) is not on the PATH"
    assert probed.fix == "install bubblewrap"


def _forbidden(folder: Path) -> None:
    fake = folder / "bwrap"
    fake.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)


def test_a_bubblewrap_that_is_forbidden_is_quoted_and_not_to_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forbidden(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    probed = sandbox.probe()
    assert probed.path is None
    assert "is installed but not permitted here" in probed.detail
    assert "No permissions to create new namespace" in probed.detail
    assert "permit" in probed.fix
    assert "install" not in probed.fix


def test_doctor_distinguishes_a_missing_and_a_forbidden_bubblewrap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install bubblewrap" in machine_checks.sandbox().fix
    _forbidden(tmp_path)
    found = machine_checks.sandbox()
    assert found.verdict == "warn"
    assert "install" not in found.fix
    assert "permit" in found.fix


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_the_kernel_setting_that_forbids_namespaces_is_named(
    name: str, value: str, fix: str, tmp_path: Path
) -> None:
    setting = tmp_path / "proc/sys" / name
    setting.parent.mkdir(parents=True)
    setting.write_text(f"{value}\n")
    (tmp_path / ".dockerenv").touch()
    assert fix in sandbox._permission(tmp_path)


def test_a_container_around_this_one_is_named(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    assert "seccomp=unconfined" in sandbox._permission(tmp_path)
    (tmp_path / ".dockerenv").unlink()
    assert "user_namespaces(7)" in sandbox._permission(tmp_path)
