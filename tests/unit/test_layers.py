"""Arrows run down: which module may import which, and what a container has to be content with."""

from __future__ import annotations

import ast
import functools
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lifecycle_magic

ROOT = Path(lifecycle_magic.__file__).parent

# From the bottom up: a package imports only from those above it in this list. Inside of a package
# no module imports itself by way of others. docs/architecture.md says what each package is for.
PACKAGES = [
    *(
        "exception",
        "modal_api",
        "threads",
        "checks",
        "decorators",
        "modal_modules",
        "wire",
        "callers",
    ),
    *("host", "gpus", "secret", "volume", "network_file_system"),
    *("fingerprint", "guest", "named", "images", "errors", "spec"),
    *("engines", "lifecycle", "building", "container", "pool", "calls"),
    *("peers", "handles", "web", "services", "session", "app", "ui", "__main__"),
]

# What the user's image brings if the class asks for it.
FROM_THE_IMAGE = {"guest.pyplot_backend": {"matplotlib"}, "guest.web": {"fastapi"}}

TRAVEL = {"exception", "modal_api", "threads", "decorators", "wire", "callers", "guest", "named"}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module below the package, by its dotted name there."""
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if name != "__init__":
            yield name.removesuffix(".__init__"), path


def imports(path: Path) -> set[str]:
    """Return our modules that a module imports when it runs, at its top or inside a function."""
    found: set[str] = set()
    for node in _running(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lifecycle_magic"):
            home = (node.module or "").removeprefix("lifecycle_magic").removeprefix(".")
            for alias in node.names:
                inner = f"{home}.{alias.name}".removeprefix(".")
                found.add(inner if inner in NAMES else home)
        elif isinstance(node, ast.Import):
            ours = (a.name for a in node.names if a.name.startswith("lifecycle_magic."))
            found.update(name.removeprefix("lifecycle_magic.") for name in ours)
    return found & NAMES


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those below ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _running(child)


NAMES = {name for name, _ in modules()}


@functools.cache
def graph() -> dict[str, set[str]]:
    """Return what each module imports; too slow to find out while tests are collected."""
    return {name: imports(path) - {name} for name, path in modules()}


def height(name: str) -> int:
    """Return where the package of a module stands in `PACKAGES`."""
    package = name.partition(".")[0]
    assert package in PACKAGES, f"{package} is in no layer: add it to PACKAGES where it belongs"
    return PACKAGES.index(package)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_module_imports_from_its_own_package_or_from_one_below(name: str) -> None:
    upwards = sorted(other for other in graph()[name] if height(other) > height(name))
    assert not upwards, f"{name} reaches up to {', '.join(upwards)}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graphlib.TopologicalSorter(graph()).prepare()


@pytest.mark.parametrize("name", sorted(n for n in NAMES if n.partition(".")[0] in TRAVEL))
def test_what_runs_in_a_container_needs_the_standard_library_and_cloudpickle_alone(
    name: str,
) -> None:
    path = dict(modules())[name]
    for node in _running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots = {(node.module or "").partition(".")[0]}
        else:
            continue
        foreign = roots - set(sys.stdlib_module_names) - {"lifecycle_magic", "cloudpickle"}
        assert foreign == FROM_THE_IMAGE.get(name, set()) & roots
    reached = {other for other in graph()[name] if other.partition(".")[0] not in TRAVEL}
    assert not reached


def test_one_module_of_the_kernel_touches_signal_handlers() -> None:
    # The guest, the keeper, the relay, a build's commands and the server of an exported image are
    # processes of their own.
    others = ("guest/", "engines/process/keeper.py", "engines/process/build_command.py")
    others += ("engines/relay/", "ui/export/container_server.py")
    found = {
        str(path.relative_to(ROOT))
        for _, path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("signal", "set_wakeup_fd", "getsignal")
        if isinstance(node.value, ast.Name) and node.value.id in ("signal", "_signal")
    }
    assert {path for path in found if not path.startswith(others)} == {"threads/sigint.py"}


def test_no_module_takes_the_place_of_a_public_name() -> None:
    # An import of lifecycle_magic.method would make lm.method the module.
    assert set(lifecycle_magic.__all__) & NAMES == {"exception"}


@pytest.mark.parametrize("name", sorted(lifecycle_magic.__all__))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(lifecycle_magic, name) is not None
