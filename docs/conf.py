"""Sphinx settings of the documentation; ``make docs`` builds it.

The notebooks run on the process engine, which every Linux machine has, unless
``LIFECYCLE_MAGIC_ENGINE`` names another one. Their outputs are cached by their source in
``docs/_build``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx

import lifecycle_magic

HERE = Path(__file__).parent

os.environ.setdefault("LIFECYCLE_MAGIC_ENGINE", "process")

# Sphinx reads sources below docs/ only, so the notebooks are copied there before each build.
(HERE / "notebooks").mkdir(exist_ok=True)
for _notebook in HERE.parent.glob("notebooks/*.ipynb"):
    shutil.copy2(_notebook, HERE / "notebooks")

MAGICS = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "lifecycle_magic")
print(shell.find_magic({name!r}, {kind!r}).__doc__)
"""


def _printed(*arguments: str) -> str:
    """Return what Python prints for these arguments, with lines as long as on a page."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def _generate() -> None:
    """Write the help texts of magics and commands as the program prints them."""
    folder = HERE / "_build" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in (("lifecycle", "line"), ("lifecycle_cls", "cell")):
        (folder / f"{name}.txt").write_text(_printed("-c", MAGICS.format(name=name, kind=kind)))
    command = ("-m", "lifecycle_magic")
    overview = _printed(*command, "--help")
    names = re.findall(r"^    (\w+)(?:  |$)", overview, re.MULTILINE)
    texts = [overview, *(_printed(*command, name, "--help") for name in names)]
    (folder / "command_line.txt").write_text("\n".join(texts))


_generate()

project = "lifecycle_magic"
author = "lifecycle_magic developers"
copyright = author
version = release = lifecycle_magic.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**.ipynb_checkpoints", "notebooks/served"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

nb_execution_mode = "off" if os.environ.get("DOCS_EXECUTE") == "off" else "cache"
nb_execution_cache_path = str(HERE / "_build" / "executed")
# This one needs a database, which its test starts. DOCS_EXECUTE=some leaves out what tests run.
nb_execution_excludepatterns = ["*etl.ipynb"]
if os.environ.get("DOCS_EXECUTE") == "some":
    nb_execution_excludepatterns += ["*embeddings.ipynb", "*search.ipynb"]
nb_execution_timeout = 300  # seconds for one cell: the first one of a class builds its image
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

default_role = "code"  # docstrings write names in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Options", "params_style")]  # of App.cls and its like
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = f"lifecycle_magic {release}"
html_static_path: list[str] = []
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "footer_start": [],
    "footer_end": [],
}

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]*\.md)\)")


def _offer_outer_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Turn links to Markdown outside of docs/ into downloads: the site has no page for it."""
    folder = (HERE / name).parent

    def link(found: re.Match[str]) -> str:
        target = (folder / found[2]).resolve()
        outside = HERE not in target.parents and target.is_file()
        return f"{{download}}`{found[1]} <{found[2]}>`" if outside else found[0]

    source[0] = LINK.sub(link, source[0])


def setup(app: Sphinx) -> None:
    """Connect the events that these settings handle."""
    app.connect("source-read", _offer_outer_pages)
