"""The files of an installed package that are not modules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import lifecycle_magic
from lifecycle_magic.ui.notebook import server_extension


def test_an_index_page_has_no_link_that_leads_nowhere() -> None:
    page = metadata.metadata("lifecycle-magic").get_payload()
    links = re.findall(r"!?\[[^\]]*\]\(([^)]*)\)", str(page))
    assert all(link.startswith(("http", "#")) for link in links), links
    assert "# lifecycle_magic" in str(page)


def test_the_command_prints_its_version() -> None:
    command = [sys.executable, "-m", "lifecycle_magic", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["lifecycle-magic", lifecycle_magic.__version__]
    assert metadata.version("lifecycle-magic") == lifecycle_magic.__version__


def test_every_jupyter_server_of_the_environment_waits_for_exit_hooks() -> None:
    name = "etc/jupyter/jupyter_server_config.d/lifecycle_magic.json"
    enabled = json.loads((Path(sys.prefix) / name).read_text())
    extensions = enabled["ServerApp"]["jpserver_extensions"]
    assert extensions == {server_extension.__name__: True}
    (point,) = server_extension._jupyter_server_extension_points()
    assert point["app"] is server_extension.LifecycleMagic
