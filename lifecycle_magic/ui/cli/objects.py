"""``lifecycle-magic queue`` and ``dict``: the queues and dictionaries of living sessions."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import islice
from typing import Any

from lifecycle_magic.callers.dict_handle import Dict
from lifecycle_magic.callers.object_calls import Answer, Request, other_session
from lifecycle_magic.callers.queue_handle import Queue
from lifecycle_magic.exception import Error, InvalidError, NotFoundError
from lifecycle_magic.host.served_names import Served, living, newest
from lifecycle_magic.ui.cli.as_json import print_json
from lifecycle_magic.ui.panel.text import Table, plain

__all__ = ["add_dict_arguments", "add_queue_arguments", "run"]

Kind = type[Queue] | type[Dict]


def add_queue_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of ``queue`` to its parser."""
    add = _adder(parser, Queue)
    add("list", _list, "list the queues that have a name, and how many items each has")
    peek = add("peek", _peek, "print the first items of a queue, and leave them there")
    peek.add_argument("n", nargs="?", type=int, default=1, help="number of items (default: 1)")
    length = add("len", _len, "print the number of items of a queue")
    length.add_argument("-t", "--total", action="store_true", help="of all partitions")
    clear = add("clear", _clear_queue, "remove the items of a queue")
    clear.add_argument("-a", "--all", action="store_true", help="of all partitions")
    for one in (peek, length, clear):
        one.add_argument("-p", "--partition", help="the partition (default: the one without name)")
    _asks_first(clear)
    _deletes(add)


def add_dict_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of ``dict`` to its parser."""
    add = _adder(parser, Dict)
    add("list", _list, "list the dictionaries that have a name, and how many keys each has")
    get = add("get", _get, "print the value of a key, which is a string")
    get.add_argument("key")
    items = add("items", _items, "print keys and values")
    items.add_argument("n", nargs="?", type=int, default=20, help="how many (default: 20)")
    items.add_argument("-a", "--all", action="store_true", help="print all")
    items.add_argument("-r", "--repr", action="store_true", help="print strings as Python does")
    items.add_argument("--json", action="store_true", help="print JSON")
    _asks_first(add("clear", _clear_dict, "remove all keys of a dictionary"))
    _deletes(add)


_Add = Callable[[str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]


def _adder(parser: argparse.ArgumentParser, kind: Kind) -> _Add:
    """Return a function that adds a subcommand for queues or dictionaries."""
    parser.set_defaults(do=run)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(
        name: str, do: Callable[[argparse.Namespace], None], help: str
    ) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=help, description=help)
        made.set_defaults(act=do, parser=made, kind=kind)
        if name == "list":
            made.add_argument("--json", action="store_true", help="print JSON")
        else:
            made.add_argument("name")
        return made

    return add


def _asks_first(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _deletes(add: _Add) -> None:
    parser = add("delete", _delete, "delete it with its content")
    parser.add_argument("--allow-missing", action="store_true", help="do nothing if there is none")
    _asks_first(parser)


def run(given: argparse.Namespace) -> int:
    """Run the subcommand and return 0. Raises `Error` if it can't be done."""
    given.act(given)
    return 0


# --- sessions ------------------------------------------------------------------------------------


class _Over:
    """The way of requests to another session."""

    def __init__(self, served: Served) -> None:
        from lifecycle_magic.peers.connection import connect

        self._connection = connect(served)

    def start(self, request: Request) -> Future[Answer]:
        """Send a request."""
        from lifecycle_magic.guest.foreign_objects import start_on

        return start_on(self._connection, request)

    def wait(self, future: Future[Answer]) -> Answer:
        """Return the answer."""
        return future.result()


@contextmanager
def _inside(served: Served) -> Iterator[None]:
    """Let queues and dictionaries be those of another session."""
    token = other_session.set(_Over(served))
    try:
        yield
    finally:
        other_session.reset(token)


def _found(kind: Kind) -> Iterator[tuple[Served, str, int]]:
    """Yield the objects of living sessions: the session, the name, and how much it holds."""
    from lifecycle_magic.host.paths import state_root

    for served in newest(list(living(state_root()))):
        try:
            with _inside(served):
                counts = kind.objects.counts()
        except Error:  # it ends just now, or has another release
            continue
        yield from ((served, name, count) for name, count in counts)


@contextmanager
def _named(given: argparse.Namespace) -> Iterator[Any]:
    """Let the block use the object of this name, in the session that has it."""
    word = given.kind.__name__.lower()
    found = [served for served, name, _ in _found(given.kind) if name == given.name]
    if not found:
        raise NotFoundError(
            f"no living session has a {word} {given.name!r}. "
            f"Fix: lifecycle-magic {word} list shows those there are"
        )
    if len(found) > 1:
        raise InvalidError(
            f"{len(found)} sessions have a {word} {given.name!r}: "
            f"{', '.join(one.who for one in found)}. Fix: end all but one of them"
        )
    with _inside(found[0]):
        yield given.kind.from_name(given.name)


# --- subcommands ---------------------------------------------------------------------------------


def _list(given: argparse.Namespace) -> None:
    what = "items" if given.kind is Queue else "keys"
    found = list(_found(given.kind))
    if given.json:
        print_json(
            {"name": name, what: count, "session": one.session} for one, name, count in found
        )
        return
    rows = tuple((plain(name), str(count), plain(one.who)) for one, name, count in found)
    word = given.kind.__name__.lower()
    print(Table(("name", what, "session"), rows, frozenset({what}), f"there is no {word}").text())


def _peek(given: argparse.Namespace) -> None:
    with _named(given) as queue:
        for item in islice(_readable(queue.iterate(partition=given.partition)), given.n):
            print(plain(repr(item)))


def _len(given: argparse.Namespace) -> None:
    with _named(given) as queue:
        print(queue.len(partition=given.partition, total=given.total))


def _clear_queue(given: argparse.Namespace) -> None:
    if _is_sure(given, "Remove the items of"):
        with _named(given) as queue:
            queue.clear(partition=given.partition, all=given.all)


def _get(given: argparse.Namespace) -> None:
    with _named(given) as found:
        for value in _readable(found[key] for key in (given.key,) if key in found):
            print(plain(str(value)))
            return
    raise NotFoundError(f"the dict {given.name!r} has no key {given.key!r}. Fix: check the key")


def _items(given: argparse.Namespace) -> None:
    with _named(given) as found:
        pairs = list(islice(_readable(found.items()), None if given.all else given.n))
        left = len(found) - len(pairs)
    if given.json:
        print_json({"key": _of_json(key), "value": _of_json(value)} for key, value in pairs)
        return
    show = repr if given.repr else str
    rows = tuple((plain(show(key)), plain(show(value))) for key, value in pairs)
    print(Table(("key", "value"), rows, frozenset(), "it is empty").text())
    if left > 0:
        print(f"and {left} more: --all prints them")


def _clear_dict(given: argparse.Namespace) -> None:
    if _is_sure(given, "Remove all keys of"):
        with _named(given) as found:
            found.clear()


def _delete(given: argparse.Namespace) -> None:
    if not _is_sure(given, "Delete"):
        return
    try:
        with _named(given):
            given.kind.objects.delete(given.name)
    except NotFoundError:
        if not given.allow_missing:
            raise


def _is_sure(given: argparse.Namespace, what: str) -> bool:
    question = f"{what} the {given.kind.__name__.lower()} {given.name}? [y/N] "
    if given.yes or input(question).strip().lower() in ("y", "yes"):
        return True
    print("nothing was removed")
    return False


def _readable(values: Iterable[Any]) -> Iterator[Any]:
    """Yield values. Raises `InvalidError` for one whose type can't be imported here."""
    try:
        yield from values
    except Error:
        raise
    except Exception as error:
        raise InvalidError(
            f"a value can't be read here: {type(error).__name__}: {error}. "
            "Fix: read it in the program that has its type"
        ) from None


def _of_json(value: Any) -> Any:
    """Return a value that JSON has as it is, and any other one as Python shows it."""
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
