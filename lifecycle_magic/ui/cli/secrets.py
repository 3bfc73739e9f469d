"""``lifecycle-magic secret create|list|delete``: the named secrets of this user."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from pathlib import Path

from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.host import secret_store
from lifecycle_magic.secret import Secret
from lifecycle_magic.ui.cli.as_json import print_json

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``secret`` to its parser."""
    parser.set_defaults(do=run)
    actions = parser.add_subparsers(dest="action", metavar="create|list|delete", required=True)
    create = actions.add_parser("create", help="store variables under a name")
    create.add_argument("name")
    create.add_argument(
        "pairs", nargs="*", metavar="KEY=VALUE", help="a variable; KEY=- asks for its value"
    )
    create.add_argument("--from-json", type=Path, metavar="FILE", help="take a JSON object's too")
    create.add_argument("--from-dotenv", type=Path, metavar="FILE", help="take a .env file's too")
    create.add_argument("--force", action="store_true", help="replace a secret of this name")
    listing = actions.add_parser("list", help="print the names of secrets and of their variables")
    listing.add_argument("--json", action="store_true", help="print JSON")
    delete = actions.add_parser("delete", help="remove a secret")
    delete.add_argument("name")
    delete.add_argument(
        "-y", "--yes", action="store_true", help="accepted, as there is no question"
    )
    for action in (create, listing, delete):
        action.set_defaults(parser=action)


def run(given: argparse.Namespace) -> int:
    """Run the action of ``secret``; return 0. Raises `InvalidError` or `NotFoundError`."""
    if given.action == "create":
        _create(given)
    elif given.action == "delete":
        if not secret_store.delete(given.name):
            raise NotFoundError(
                f"no secret {given.name} is stored. Fix: lifecycle-magic secret list"
            )
        print(f"removed {given.name}")
    elif given.json:
        print_json({"name": name, "variables": _variables(name)} for name in secret_store.names())
    else:
        print(describe())
    return 0


def _variables(name: str) -> list[str]:
    return sorted(secret_store.read(name) or ())


def describe() -> str:
    """Return the stored secrets, a line each: the name, and the names of its variables."""
    names = secret_store.names()
    width = max(map(len, names), default=0)
    lines = [f"{name:<{width}}  {', '.join(_variables(name))}" for name in names]
    return "\n".join(lines) or "no secrets are stored; lifecycle-magic secret create NAME KEY=VALUE"


def _create(given: argparse.Namespace) -> None:
    if not given.force and secret_store.read(given.name) is not None:
        raise InvalidError(f"a secret {given.name} is stored already. Fix: --force replaces it")
    values = Secret.from_dotenv(given.from_dotenv).values() if given.from_dotenv else {}
    if given.from_json:
        values.update(_of_json(given.from_json))
    for pair in given.pairs:
        key, equals, value = pair.partition("=")
        if not equals:  # the text may be a value: never in a message
            raise InvalidError("a variable has no '='. Fix: write KEY=VALUE, or KEY=- to be asked")
        values[key] = _asked(key) if value == "-" else value
    if not values:
        raise InvalidError(f"nothing to store. Fix: secret create {given.name} KEY=VALUE")
    secret_store.create(given.name, Secret.from_dict(values).values())
    print(f"stored {given.name}: {', '.join(sorted(values))}")


def _of_json(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise InvalidError(
            f'{path} is not a JSON object of strings. Fix: write {{"NAME": "value"}} into the file'
        )
    return found


def _asked(key: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(f"{key}: ")
    return sys.stdin.readline().rstrip("\n")
