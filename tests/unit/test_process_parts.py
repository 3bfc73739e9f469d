"""The parts of the process engine that need no process: paths, settings, records."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lifecycle_magic.engines import pip_settings
from lifecycle_magic.engines.process import environments, keeper, sandbox
from lifecycle_magic.engines.process.keeper import remove_tree
from lifecycle_magic.engines.process.run_steps import inside
from lifecycle_magic.engines.process.store import ImageRecord, Store, copy_tree, write
from lifecycle_magic.exception import EngineError

# --- paths in a snapshot -----------------------------------------------------------------------


@pytest.mark.parametrize("link", ["/outside", "../../../../outside", "/../outside"])
def test_a_link_in_a_snapshot_can_not_lead_out_of_it(tmp_path: Path, link: str) -> None:
    (tmp_path / "data").symlink_to(link)
    assert inside(tmp_path, "/data/file") == tmp_path / "outside" / "file"


def test_a_relative_link_leads_from_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib64").symlink_to("lib")
    assert inside(tmp_path, "/usr/lib64/x") == tmp_path / "usr/lib/x"


def test_the_last_part_is_followed_only_on_demand(tmp_path: Path) -> None:
    (tmp_path / "work").symlink_to("/data")
    assert inside(tmp_path, "/work") == tmp_path / "work"
    assert inside(tmp_path, "/work", follow=True) == tmp_path / "data"


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="too many links"):
        inside(tmp_path, "/a/x")


# --- settings ----------------------------------------------------------------------------------


def uv_variables(host: dict[str, str]) -> dict[str, str]:
    """Return the variables that uv gets for pip's settings, without this machine's certificates."""
    settings = pip_settings.read({"XDG_CONFIG_DIRS": "/nowhere", **host}, prefix="/nowhere")
    settings.pop("cert", None)
    return pip_settings.uv_variables(settings, host)


def test_pips_settings_are_given_to_uv(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror.invalid/simple\n"
        "extra-index-url =\n  https://a.invalid\n  https://b.invalid\n"
        "trusted_host = a.invalid\nno-binary = numpy,scipy\npre = yes\n"
        "[install]\nfind-links = /w ~/v\nconstraint = /c.txt\n"
    )
    host = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path)}
    assert uv_variables(host) == {
        "UV_INDEX_URL": "https://mirror.invalid/simple",
        "UV_INDEX": "https://a.invalid https://b.invalid",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"/w,{os.path.expanduser('~/v')}",
        "UV_INSECURE_HOST": "a.invalid",
        "UV_CONSTRAINT": "/c.txt",
        "UV_PRERELEASE": "allow",
    }
    assert pip_settings.uv_options(pip_settings.read(host)) == [
        "--no-binary=numpy",
        "--no-binary=scipy",
    ]


@pytest.mark.parametrize(
    "path", ["xdg/pip/pip.conf", ".pip/pip.conf", ".config/pip/pip.conf", "prefix/pip.conf"]
)
def test_pips_files_are_read_where_pip_reads_them(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("[global]\nextra-index-url = https://file.invalid\n")
    host = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": f"{tmp_path}/none:{tmp_path}/xdg"}
    found = pip_settings.read(host, str(tmp_path / "prefix"))
    assert found["extra-index-url"] == ["https://file.invalid"]
    assert "extra-index-url" not in pip_settings.read({**host, "PIP_CONFIG_FILE": os.devnull})


def test_pips_variables_go_before_its_files(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://file.invalid\n")
    host = {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_INDEX_URL": "https://variable.invalid",
        "HOME": str(tmp_path),
    }
    assert uv_variables(host)["UV_INDEX_URL"] == "https://variable.invalid"


def test_uvs_own_indexes_win_over_pips(tmp_path: Path) -> None:
    host = {"UV_INDEX": "https://uv.invalid", "PIP_INDEX_URL": "https://pip.invalid"}
    assert "UV_INDEX_URL" not in uv_variables(host)
    assert "UV_INDEX_STRATEGY" not in uv_variables({**host, "PIP_EXTRA_INDEX_URL": "https://a"})


def test_credentials_in_a_url_are_not_shown() -> None:
    text = "GET https://user:pa55@mirror.invalid/x and git+https://t0ken@host.invalid/y"
    told = environments.redact(text)
    assert told == "GET https://***@mirror.invalid/x and git+https://***@host.invalid/y"


def test_a_clean_environment_has_nothing_of_the_hosts_but_what_is_listed() -> None:
    host = {"TOKEN": "s3cret", "PATH": "/evil", "HTTPS_PROXY": "p", "SSL_CERT_FILE": "c"}
    clean = environments.clean_environment(host, home="/root", venv="/opt/venv")
    assert "TOKEN" not in clean
    assert clean["PATH"].startswith("/opt/venv/bin:")
    assert "/evil" not in clean["PATH"]
    assert (clean["HTTPS_PROXY"], clean["SSL_CERT_FILE"]) == ("p", "c")


# --- the store ---------------------------------------------------------------------------------


def test_a_folder_that_is_not_published_is_removed_after_the_block(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def half() -> None:
        with store.making("images", "k") as folder:
            (folder / "half").touch()
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert store.images() == []
    assert list((tmp_path / "images").iterdir()) == []


def test_what_a_live_process_is_making_is_no_leftover(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.making("images", "k") as folder, store.new_venv() as venv:
        venv.mkdir()
        assert store.clear_leftovers() == []
        assert folder.exists()
        assert venv.exists()


def test_what_a_process_of_another_boot_was_making_is_a_leftover(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = store.folder("images") / ".making-1-1-00000000-0"
    old.mkdir()
    assert store.clear_leftovers() == [f"leftover images/{old.name}"]
    assert not old.exists()


def test_an_image_whose_environment_is_broken_is_not_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    python = store.folder("venvs") / "v/bin/python"
    python.parent.mkdir(parents=True)
    target = tmp_path / "python3"
    target.touch()
    python.symlink_to(target)
    place = store.folder("images") / "k"
    place.mkdir()
    record = ImageRecord(venv="v", prefixes=(str(tmp_path),), env={"A": "b"}, workdir="/w")
    write(place / "image.json", record)
    assert store.image("k") == record
    target.unlink()  # the host's Python was upgraded
    assert store.image("k") is None


def test_an_image_without_the_folders_of_its_python_is_found_for_that_python_alone(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    (tmp_path / "python3").touch()
    for name, target in (("ours", Path(sys.executable).resolve()), ("other", tmp_path / "python3")):
        python = store.folder("venvs") / name / "bin/python"
        python.parent.mkdir(parents=True)
        python.symlink_to(target)
        (store.folder("images") / name).mkdir()
        write(store.folder("images") / name / "image.json", ImageRecord(venv=name))
    assert store.image("ours") == ImageRecord(venv="ours")
    assert store.image("other") is None


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "/etc"])
def test_a_name_can_not_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError, match="can't be a name"):
        Store(tmp_path).place("images", name)


def test_a_copy_keeps_modes_links_and_empty_folders(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "run.sh").write_text("x")
    (source / "run.sh").chmod(0o750)
    (source / "link").symlink_to("/nowhere")
    copy_tree(source, tmp_path / "copy")
    copy = tmp_path / "copy"
    assert (copy / "empty").is_dir()
    assert (copy / "run.sh").stat().st_mode & 0o777 == 0o750
    assert (copy / "link").readlink() == Path("/nowhere")


def test_a_tree_is_removed_whatever_modes_its_folders_have(tmp_path: Path) -> None:
    (tmp_path / "root/locked/deep").mkdir(parents=True)
    (tmp_path / "root/locked/deep/file").touch()
    (tmp_path / "root/locked/deep").chmod(0)
    (tmp_path / "root/locked").chmod(0o500)
    remove_tree(str(tmp_path / "root"))
    assert not (tmp_path / "root").exists()
    remove_tree(str(tmp_path / "root"))


def test_a_hidden_file_that_is_gone_at_the_start_is_no_part_of_the_command(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    hidden = [word for path in (gone, there) for word in ("--ro-bind", os.devnull, str(path))]
    folder = ["--ro-bind", "/usr", "/usr"]
    command = ["bwrap", *folder, *hidden, "--", "true"]
    kept = ["bwrap", *folder, "--ro-bind", os.devnull, str(there), "--", "true"]
    assert keeper._without_vanished(command) == kept


def test_a_lock_is_not_hidden_and_a_file_that_appears_later_is(tmp_path: Path) -> None:
    for name in ("group.lock", "shadow"):
        (tmp_path / name).touch(mode=0o600)
    assert sandbox.private_files(str(tmp_path)) == (str(tmp_path / "shadow"),)
    (tmp_path / "keys").mkdir(mode=0o700)
    assert set(sandbox.private_files(str(tmp_path))) == {
        str(tmp_path / "shadow"),
        f"{tmp_path}/keys/",
    }
