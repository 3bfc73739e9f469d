"""Documents outside the code: links have targets, and no page is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from unit.test_layers import PACKAGES

import lifecycle_magic

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BUILT = {"_build", "notebooks"}  # by docs/conf.py, from what is elsewhere
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    if path.relative_to(DOCS if DOCS in path.parents else ROOT).parts[0] not in BUILT
)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://)([^)\s#]*)(?:#([^)\s]*))?\)")


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(CODE.sub("", page.read_text())):
        file = (page.parent / target).resolve() if target else page
        if file.parent == DOCS / "notebooks":  # the build copies them there
            file = ROOT / "notebooks" / file.name
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(f"{target}#{anchor}")
    assert broken == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("name", sorted(lifecycle_magic.__all__))
def test_the_reference_has_every_public_name(name: str) -> None:
    reference = (DOCS / "reference" / "api.md").read_text()
    assert re.search(rf":: (lifecycle_magic\.)?{name}\b", reference), name


def test_every_guide_is_in_their_index() -> None:
    # The project's pages are found by a pattern, and Sphinx warns of a page that is nowhere.
    listed = re.findall(r"^[\w-]+$", (DOCS / "guides/index.md").read_text(), re.MULTILINE)
    pages = sorted(page.stem for page in DOCS.glob("guides/*.md"))
    assert sorted([*listed, "index"]) == pages


def test_the_version_is_written_in_one_place() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert f'"{lifecycle_magic.__version__}"' not in project


def test_the_table_of_packages_is_that_of_the_layers() -> None:
    section = (DOCS / "architecture.md").read_text().partition("## Packages\n")[2]
    table = re.findall(r"^\| `(\w+)`", section.partition("\n## ")[0], re.MULTILINE)
    assert table == PACKAGES


def test_modules_that_the_architecture_names_are_there() -> None:
    page = (DOCS / "architecture.md").read_text()
    names = set(re.findall(r"`((?:\w+/)+\w[\w.]*)`", page))
    roots = [ROOT, ROOT / "lifecycle_magic", DOCS]
    assert [n for n in sorted(names) if not any((r / n).exists() for r in roots)] == []
