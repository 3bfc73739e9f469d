"""``lifecycle-magic volume``: named volumes and the files in them, as Modal's command."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.ui.cli.as_json import print_json
from lifecycle_magic.ui.panel.text import Table, plain, size
from lifecycle_magic.volume import FileEntry, FileEntryType, Volume

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of ``volume`` to its parser."""
    parser.set_defaults(do=run)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, do: Callable[[argparse.Namespace], None], help: str) -> _Action:
        made = actions.add_parser(name, help=help, description=help)
        made.set_defaults(act=do, parser=made)
        return _Action(made)

    add("create", _create, "create a volume").takes("volume")
    add("list", _list, "list the volumes").has("--json", "print JSON")
    add("delete", _delete, "remove a volume and its content").takes("volume").has(
        "-y", "--yes", "do not ask"
    )
    add("rename", _rename, "give a volume another name").takes("volume", "new_name").has(
        "-y", "--yes", "accepted, as there is no question"
    )
    add("ls", _ls, "list files of a volume").takes("volume", "path?").has("--json", "print JSON")
    add("get", _get, "copy files of a volume to this machine").takes(
        "volume", "remote_path", "local?"
    ).has("--force", "replace existing files")
    add("put", _put, "copy a file or folder of this machine to a volume").takes(
        "volume", "local_path", "remote?"
    ).has("-f", "--force", "replace existing files")
    add("cp", _cp, "copy files within a volume").takes("volume", "paths+").has(
        "-r", "--recursive", "copy folders too"
    )
    add("rm", _rm, "remove a file of a volume").takes("volume", "remote_path").has(
        "-r", "--recursive", "remove a folder with all that is in it"
    )


class _Action:
    """The parser of a subcommand: `takes` and `has` add arguments and switches to it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def takes(self, *names: str) -> _Action:
        """Add positional arguments; a name ends with ``?`` or ``+`` as in a pattern."""
        for name in names:
            many = name[-1] if name[-1] in "?+" else None
            self._parser.add_argument(name.rstrip("?+"), nargs=many)
        return self

    def has(self, *flags_and_help: str) -> _Action:
        """Add a switch: its flags, then its help."""
        *flags, help = flags_and_help
        self._parser.add_argument(*flags, action="store_true", help=help)
        return self


def run(given: argparse.Namespace) -> int:
    """Run the subcommand and return 0. Raises `Error` if it can't be done."""
    from lifecycle_magic.session import session

    try:
        given.act(given)
    except FileExistsError as error:
        raise InvalidError(str(error).replace("batch_upload(force=True)", "--force")) from None
    finally:
        session.close("the command has ended")
    return 0


def _existing(name: str) -> Volume:
    return Volume.from_name(name, create_if_missing=False)


def _create(given: argparse.Namespace) -> None:
    Volume.objects.create(given.volume)
    print(f"created {given.volume}")


def _list(given: argparse.Namespace) -> None:
    names = [str(one.name) for one in Volume.objects.list()]
    if given.json:
        print_json([{"name": name} for name in names])
    else:
        print("\n".join(names) or "there are no volumes; lifecycle-magic volume create NAME")


def _delete(given: argparse.Namespace) -> None:
    if not given.yes:
        question = f"Remove the volume {given.volume} and its content? [y/N] "
        if input(question).strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return
    Volume.delete(given.volume)
    print(f"removed {given.volume}")


def _rename(given: argparse.Namespace) -> None:
    Volume.rename(given.volume, given.new_name)
    print(f"{given.volume} is now {given.new_name}")


def _ls(given: argparse.Namespace) -> None:
    entries = _existing(given.volume).listdir(given.path or "/")
    if given.json:
        print_json(
            [
                {"path": one.path, "type": one.type.name.lower(), "mtime": one.mtime,
                 "size": one.size}
                for one in entries
            ]
        )  # fmt: skip
        return
    rows = tuple(
        (plain(one.path), one.type.name.lower(), _when(one.mtime), size(one.size))
        for one in entries
    )
    columns = ("path", "type", "changed", "size")
    print(Table(columns, rows, frozenset({"size"}), "the folder is empty").text())


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _get(given: argparse.Namespace) -> None:
    volume, start = _existing(given.volume), given.remote_path
    if given.local == "-":
        for block in volume.read_file(start):
            sys.stdout.buffer.write(block)
        return
    found = list(volume.listdir(start, recursive=True))
    is_file = [one.path for one in found] == [start.strip("/")]
    above = PurePosixPath(start.strip("/")).parent
    local = Path(given.local or ".")
    for one in found:
        below = PurePosixPath(one.path).relative_to(above)
        target = local / below
        if is_file and not local.is_dir() and not str(given.local).endswith("/"):
            target = local
        _fetch(volume, one, target, given.force)


def _fetch(volume: Volume, entry: FileEntry, target: Path, force: bool) -> None:
    if entry.type is FileEntryType.DIRECTORY:
        target.mkdir(parents=True, exist_ok=True)
        return
    if entry.type is not FileEntryType.FILE:
        print(f"left out {plain(entry.path)}, which is no file", file=sys.stderr)
        return
    if target.exists() and not force:
        raise InvalidError(f"{target} exists. Fix: --force replaces it")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            volume.read_file_into_fileobj(entry.path, file)
        part.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    print(target)


def _put(given: argparse.Namespace) -> None:
    local, remote = Path(given.local_path), given.remote or "/"
    with Volume.from_name(given.volume).batch_upload(force=given.force) as batch:
        if local.is_dir():
            into = f"{remote.rstrip('/')}/{local.resolve().name}" if remote[-1] == "/" else remote
            batch.put_directory(local, into)
        else:
            batch.put_file(local, remote)
    print(f"copied {local} to {given.volume}:{remote}")


def _cp(given: argparse.Namespace) -> None:
    if len(given.paths) < 2:
        raise InvalidError(
            "volume cp needs a path to copy and a path to copy it to. "
            "Fix: lifecycle-magic volume cp VOLUME FROM TO"
        )
    *sources, target = given.paths
    _existing(given.volume).copy_files(sources, target, recursive=given.recursive)


def _rm(given: argparse.Namespace) -> None:
    _existing(given.volume).remove_file(given.remote_path, recursive=given.recursive)
