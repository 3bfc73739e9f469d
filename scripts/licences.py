"""Write docs/licences.md: the licence of every package that pyproject.toml declares.

Licences are read from the metadata of what is installed, so run it in an environment that
`make install` has made.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import tomllib

TREE = Path(__file__).parents[1]
HEAD = """# Licences of dependencies

lifecycle_magic itself has the Apache License 2.0. The packages below are no part of it: pip
installs them. `scripts/licences.py` writes this page from the packages' own metadata.
"""
TITLES = {
    "": "For everybody",
    "lab": "With the extra `lab`",
    "web": "With the extra `web`",
    "completion": "With the extra `completion`",
    "gpu": "With the extra `gpu`",
    "demo": "With the extra `demo`",
    "docs": "For the site (extra `docs`)",
    "dev": "For development only",
}


def licence(name: str) -> str:
    """Return the licence that the package's metadata names, in a few words."""
    found = metadata.metadata(name)
    expression = found.get("License-Expression")
    if expression:
        return expression
    classifiers = [
        one.rpartition(" :: ")[2].removeprefix("OSI Approved :: ")
        for one in found.get_all("Classifier", [])
        if one.startswith("License ::")
    ]
    if classifiers:
        return ", ".join(classifiers)
    first = (found.get("License") or "").strip().partition("\n")[0]
    return first[:60] or "unknown"


def main() -> None:
    """Write the page."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    page, seen = [HEAD], set()
    for extra, title in TITLES.items():
        names = {re.split(r"[^\w.-]", line)[0] for line in extras[extra]} - {"lifecycle-magic"}
        plain = {re.sub(r"[-_.]+", "-", name).lower() for name in names} - seen
        seen |= plain
        rows = "".join(f"| {name} | {licence(name)} |\n" for name in sorted(plain))
        page.append(f"## {title}\n\n| Package | Licence |\n| --- | --- |\n{rows}")
    (TREE / "docs" / "licences.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
