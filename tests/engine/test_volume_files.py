"""The files of a volume, from the notebook: the same on both engines and for a host's folder."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.session import session
from lifecycle_magic.volume import FileEntryType


@pytest.fixture
def volume(engine_name: str) -> Iterator[lm.Volume]:
    made = lm.Volume.from_name(f"files-{secrets.token_hex(6)}")
    yield made
    lm.Volume.delete(str(made.name), allow_missing=True)
    session.close("the test is over")


def content(volume: lm.Volume, path: str) -> bytes:
    return b"".join(volume.read_file(path))


def names(volume: lm.Volume, path: str = "/", *, recursive: bool = True) -> list[str]:
    return [one.path for one in volume.listdir(path, recursive=recursive)]


def upload(volume: lm.Volume, files: dict[str, bytes], *, force: bool = False) -> None:
    with volume.batch_upload(force=force) as batch:
        for path, data in files.items():
            batch.put_file(io.BytesIO(data), path)


def test_files_are_written_listed_read_copied_and_removed(
    volume: lm.Volume, tmp_path: Path
) -> None:
    large = secrets.token_bytes(3 << 20)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "large").write_bytes(large)
    (tmp_path / "a.txt").write_text("a")
    with volume.batch_upload() as batch:
        batch.put_directory(tmp_path, "/all")
        batch.put_file(tmp_path / "a.txt", "one/")
        batch.put_file(io.BytesIO(b"from memory"), "/memory", mode=0o600)
        assert names(volume) == []
    assert names(volume) == [
        "all", "all/a.txt", "all/sub", "all/sub/large", "memory", "one", "one/a.txt",
    ]  # fmt: skip
    assert names(volume, recursive=False) == ["all", "memory", "one"]
    assert names(volume, "all/**/large") == ["all/sub/large"]
    assert names(volume, "/*/a.txt") == ["all/a.txt", "one/a.txt"]
    (entry,) = volume.listdir("all/sub/large")
    assert (entry.type, entry.size) == (FileEntryType.FILE, 3 << 20)
    assert [one.path for one in volume.iterdir("all")] == names(volume, "all")

    assert content(volume, "/all/sub/large") == large
    into = io.BytesIO()
    assert volume.read_file_into_fileobj("memory", into) == len(b"from memory")
    assert into.getvalue() == b"from memory"

    volume.copy_files(["memory"], "copied")
    volume.copy_files(["memory", "all/a.txt"], "one")
    volume.copy_files(["all"], "again", recursive=True)
    assert content(volume, "copied") == content(volume, "one/memory") == b"from memory"
    assert names(volume, "again") == ["again/a.txt", "again/sub", "again/sub/large"]
    with pytest.raises(InvalidError, match=r"'all' is a folder. Fix: give recursive=True"):
        volume.copy_files(["all"], "third")
    with pytest.raises(InvalidError, match=r"'memory' is no folder"):
        volume.copy_files(["all/a.txt", "copied"], "memory")

    with pytest.raises(InvalidError, match=r"'again' is a folder. Fix: give recursive=True"):
        volume.remove_file("again")
    volume.remove_file("again", recursive=True)
    volume.remove_file("copied")
    assert names(volume, recursive=False) == ["all", "memory", "one"]


def test_a_file_that_exists_stays_unless_force_is_given(volume: lm.Volume) -> None:
    upload(volume, {"kept": b"1"})
    with pytest.raises(FileExistsError, match=r"'kept' exists. .*batch_upload\(force=True\)"):
        upload(volume, {"new": b"2", "kept": b"2"})
    assert names(volume) == ["kept"]
    assert content(volume, "kept") == b"1"
    upload(volume, {"new": b"2", "kept": b"2"}, force=True)
    assert content(volume, "kept") == content(volume, "new") == b"2"


def write_and_stop(volume: lm.Volume) -> None:
    with volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"1"), "never")
        raise ValueError("stop")


def test_a_block_that_raises_writes_nothing(volume: lm.Volume) -> None:
    with pytest.raises(ValueError, match="stop"):
        write_and_stop(volume)
    assert names(volume) == []


def test_what_is_not_there_is_named(volume: lm.Volume) -> None:
    for look in (volume.remove_file, volume.listdir, lambda path: content(volume, path)):
        with pytest.raises(NotFoundError, match=r"in the volume files-.* there is no 'a/b'"):
            look("/a/b")
    with pytest.raises(InvalidError, match=r"read_file: in the volume .* is a folder"):
        content(volume, "/")
    other = lm.Volume.from_name(f"none-{secrets.token_hex(4)}", create_if_missing=False)
    with pytest.raises(NotFoundError, match=r"there is no volume 'none-.*create_if_missing"):
        other.listdir()
    with pytest.raises(NotFoundError, match="there is no volume"):
        lm.Volume.delete(str(other.name))


def test_volumes_are_listed_renamed_and_deleted(volume: lm.Volume) -> None:
    name, new = str(volume.name), f"renamed-{secrets.token_hex(4)}"
    upload(volume, {"a/b": b"1"})
    assert name in [one.name for one in lm.Volume.objects.list()]
    with pytest.raises(InvalidError, match="already"):
        lm.Volume.objects.create(name)
    lm.Volume.objects.create(name, allow_existing=True)
    lm.Volume.rename(name, new)
    assert content(lm.Volume.from_name(new), "a/b") == b"1"
    assert name not in [one.name for one in lm.Volume.objects.list()]
    lm.Volume.delete(new)
    assert new not in [one.name for one in lm.Volume.objects.list()]


def test_every_method_has_a_form_for_coroutines(volume: lm.Volume) -> None:
    async def use() -> Any:
        async with volume.batch_upload() as batch:
            batch.put_file(io.BytesIO(b"1"), "a")
        await volume.copy_files.aio(["a"], "b")
        found = [one.path async for one in volume.iterdir.aio("/")]
        blocks = [block async for block in volume.read_file.aio("b")]
        await volume.remove_file.aio("a")
        await volume.commit.aio()
        left = await volume.listdir.aio("/")
        await lm.Volume.delete.aio(str(volume.name))
        return found, blocks, [one.path for one in left]

    assert asyncio.run(use()) == (["a", "b"], [b"1"], ["b"])


class Files:
    """Reads and writes below the path where its volume is mounted, and asks the volume itself."""

    def __init__(self, volume: lm.Volume, path: str) -> None:
        self.volume = volume
        self.path = Path(path)

    @lm.method()
    def swap(self, text: str) -> str:
        before = (self.path / "given").read_text()
        (self.path / "made").write_text(text)
        self.volume.commit()
        self.volume.reload()
        return before

    @lm.method()
    async def commit(self) -> None:
        await self.volume.commit.aio()

    @lm.method()
    def list_it(self) -> Any:
        return self.volume.listdir("/")


def test_containers_and_the_notebook_see_each_others_files(
    site_on_each: Site, need_mounts: None, volume: lm.Volume
) -> None:
    upload(volume, {"given": b"from the notebook"})
    files = site_on_each.app.cls(volumes={"/shared": volume})(Files)(volume, "/shared")
    assert files.swap.remote("from the container") == "from the notebook"
    assert content(volume, "made") == b"from the container"
    files.commit.remote()
    with pytest.raises(InvalidError, match=r"listdir: a container .* mount the volume"):
        files.list_it.remote()
    with pytest.raises(InvalidError, match=r"delete: the volume .* is in use"):
        lm.Volume.delete(str(volume.name))
    site_on_each.app.stop()


def test_an_ephemeral_volume_is_shared_in_its_block_and_gone_after(
    site_on_each: Site, need_mounts: None
) -> None:
    with lm.Volume.ephemeral() as volume:
        upload(volume, {"given": b"1"})
        files = site_on_each.app.cls(volumes={"/shared": volume})(Files)(volume, "/shared")
        assert files.swap.remote("2") == "1"
        assert content(volume, "made") == b"2"
        site_on_each.app.stop()
    assert volume.name not in [one.name for one in lm.Volume.objects.list()]
    with pytest.raises(InvalidError, match="another folder in each container"):
        lm.Volume.ephemeral().listdir()


# --- a folder of the host ------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "volume"
    made.mkdir()
    return made


def test_no_path_and_no_link_leads_out_of_the_volume(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (folder / "link").symlink_to("../secret")
    (folder / "absolute").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to("..")
    (folder / "inner").symlink_to("data/real")
    (folder / "round").symlink_to("round")
    (folder / "data").mkdir()
    (folder / "data" / "real").write_text("r")
    volume = lm.Volume.from_path(folder)
    assert content(volume, "inner") == b"r"
    for path in ("link", "absolute", "up/secret", "round", f"up{tmp_path}/secret"):
        with pytest.raises(NotFoundError):
            content(volume, path)
    for path in ("../secret", "data/../../secret", "a\0b"):
        with pytest.raises(InvalidError, match="leads out of the volume"):
            content(volume, path)
        with pytest.raises(InvalidError, match="leads out of the volume"):
            volume.remove_file(path)
        with pytest.raises(InvalidError, match="leads out of the volume"):
            upload(volume, {path: b"x"})
    upload(volume, {"up/secret": b"x", "link": b"y", "absolute": b"z"}, force=True)
    volume.remove_file("up")
    volume.copy_files(["data"], "copy", recursive=True)
    assert (tmp_path / "secret").read_text() == "s"
    kinds = {one.path: one.type for one in volume.listdir("/")}
    assert kinds["inner"] == FileEntryType.SYMLINK
    assert kinds["data"] == FileEntryType.DIRECTORY


class Watching(io.BytesIO):
    """Looks at the volume each time that it is read."""

    def __init__(self, look: Any) -> None:
        super().__init__(b"new" * 1000)
        self.look = look
        self.seen: list[Any] = []

    def read(self, size: int | None = -1, /) -> bytes:
        self.seen.append(self.look())
        return super().read(size)


def test_a_file_appears_as_a_whole_and_is_replaced_at_once(folder: Path) -> None:
    volume = lm.Volume.from_path(folder)
    source = Watching(lambda: names(volume))
    with volume.batch_upload() as batch:
        batch.put_file(source, "a")
    assert source.seen
    assert not any(source.seen)
    source = Watching(lambda: content(volume, "a"))
    with volume.batch_upload(force=True) as batch:
        batch.put_file(source, "a")
    assert set(source.seen) == {b"new" * 1000}
    assert [one.name for one in folder.iterdir()] == ["a"]


def test_a_source_that_fails_leaves_nothing(folder: Path) -> None:
    volume = lm.Volume.from_path(folder)

    def fail() -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"), volume.batch_upload() as batch:
        batch.put_file(Watching(fail), "a")
    assert list(folder.iterdir()) == []
    with pytest.raises(InvalidError, match="there is no file"):
        volume.batch_upload().put_file(folder / "none", "a")
    with pytest.raises(InvalidError, match="there is no folder"):
        volume.batch_upload().put_directory(folder / "none", "a")


def test_a_read_only_volume_is_read_and_not_written(site_on_each: Site, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("from here")
    folder = lm.Volume.from_path(tmp_path)
    kept = lm.Volume.from_name(f"read-only-{secrets.token_hex(6)}")
    upload(kept, {"one": b"kept"})
    shared = {"/folder": folder.read_only(), "/kept": kept.with_mount_options(read_only=True)}

    @site_on_each.app.function(volumes=shared)
    def read_and_write(path: str) -> tuple[str, str]:
        try:
            Path(path, "two").write_text("x")
        except OSError as error:
            return Path(path, "one").read_text(), str(error.strerror)
        return Path(path, "one").read_text(), "written"

    try:
        assert read_and_write.remote("/folder") == ("from here", "Read-only file system")
        assert read_and_write.remote("/kept") == ("kept", "Read-only file system")
        assert names(kept) == ["one"]
    finally:
        site_on_each.app.stop()
        lm.Volume.delete(str(kept.name))
