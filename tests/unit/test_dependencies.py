"""The package's imports and the dependencies in pyproject.toml agree in both directions."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lifecycle_magic

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(lifecycle_magic.__file__).parent
TREE = Path(__file__).parents[2]

# Modules that only work with an extra, which an error of theirs names where it is missing.
NEEDS = {
    "web": ("web/", "guest/web.py", "ui/cli/serve.py"),
    "demo": ("ui/cli/demo.py",),
    "swarm": ("engines/swarm/certificates.py",),
    "lab": ("ui/notebook/server_extension.py",),  # loaded by a Jupyter server, never by a kernel
}

FOR_TYPE_CHECKERS = {"handles/static_types.py"}
"""Modules that nothing imports when it runs, with what type checkers bring along."""

FROM_THE_IMAGE = {("guest/pyplot_backend.py", "matplotlib")}
"""Imports of modules that a package in the container loads, where it is there."""

NAMED_OTHERWISE = {"IPython": "ipython", "dotenv": "python-dotenv"}

# Declared although no module of the package imports it.
KEPT = {
    "ipykernel": "required by the project: the cell magic runs in its kernels",
    "ipywidgets": "required by the project: JupyterLab shows the panel with its front end",
    "jupyterlab": "an application",
    "matplotlib": "the notebooks draw with it",
    "tomli": "imported as tomllib in Python 3.11 and later",
}

# Imported, and declared here because the project requires them whatever the code does.
REQUIRED = {"ipywidgets", "ipykernel", "docker", "cloudpickle", "ipython"}


def project() -> dict[str, list[str]]:
    """Return the declared names of each extra; ``""`` stands for the required dependencies."""
    told = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    extras = {"": told["dependencies"], **told["optional-dependencies"]}
    return {extra: [_name(line) for line in lines] for extra, lines in extras.items()}


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return _normal(found[0])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield from running(other)
            continue
        yield child
        yield from running(child)


def imported(path: Path) -> Iterator[str]:
    """Yield the packages that a module imports, at its top or later, by their declared names."""
    for node in running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            roots = [(node.module or "").partition(".")[0]]
        else:
            continue
        for root in roots:
            if root not in sys.stdlib_module_names and root != "lifecycle_magic":
                yield _normal(NAMED_OTHERWISE.get(root, root))


def extra_of(module: str) -> str:
    """Return the extra that a module needs, or ``""``."""
    return next((extra for extra, paths in NEEDS.items() if module.startswith(paths)), "")


@pytest.fixture(scope="module", autouse=True)
def tree() -> None:
    if not (TREE / "pyproject.toml").exists():
        pytest.skip("there is no source tree")


def test_every_import_is_declared_where_its_module_needs_it() -> None:
    declared = project()
    missing = {
        (str(path.relative_to(PACKAGE)), name)
        for path in PACKAGE.rglob("*.py")
        if str(path.relative_to(PACKAGE)) not in FOR_TYPE_CHECKERS
        for name in imported(path)
        if name not in declared[""]
        and name not in declared.get(extra_of(str(path.relative_to(PACKAGE))), [])
    }
    assert missing <= FROM_THE_IMAGE


def test_what_is_for_type_checkers_is_imported_nowhere() -> None:
    names = {path.removesuffix(".py").replace("/", ".") for path in FOR_TYPE_CHECKERS}
    for path in PACKAGE.rglob("*.py"):
        for node in running(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                found = {f"{node.module}.{one.name}" for one in node.names} | {str(node.module)}
                assert not found & {f"lifecycle_magic.{name}" for name in names}, path


def test_every_declared_package_is_imported_or_has_a_reason() -> None:
    declared = project()
    used: dict[str, set[str]] = {extra: set() for extra in declared}
    for path in PACKAGE.rglob("*.py"):
        used[extra_of(str(path.relative_to(PACKAGE)))].update(imported(path))
    for extra in ("", *NEEDS):
        unused = set(declared[extra]) - used[extra] - set(KEPT) - {"lifecycle-magic"}
        assert not unused, f"declared for {extra or 'everybody'} and never imported: {unused}"
    assert set(declared[""]) >= REQUIRED


def test_notebook_packages_are_imported_only_in_notebooks() -> None:
    code = """
import sys
import lifecycle_magic as lm
app = lm.App("plain")
@app.cls()
class Model:
    @lm.method()
    def f(self): return 1
Model()
print(sorted({"IPython", "ipykernel", "ipywidgets", "anywidget", "traitlets"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_licence_of_every_declared_package_is_listed() -> None:
    listed = (TREE / "docs" / "licences.md").read_text()
    rows = dict(re.findall(r"^\| ([\w-]+) \| ([^|]+?) \|", listed, re.MULTILINE))
    declared = {name for names in project().values() for name in names} - {"lifecycle-magic"}
    assert declared <= rows.keys(), "run scripts/licences.py"
    assert rows.keys() - {"Package", "---"} <= declared, "run scripts/licences.py"
    assert not [name for name in declared if rows[name] in ("", "unknown")]
