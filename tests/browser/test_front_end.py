"""The panel's front end as far as it needs no browser: its own tests, and the bundle that ships."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lifecycle_magic.ui.panel import widget

STATIC = Path(widget.__file__).with_name("static")


def run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_types_hold(need_js):
    run(need_js, "node", "node_modules/typescript/bin/tsc", "--noEmit")


def test_its_own_tests_pass(need_js):
    run(need_js, "node", "node_modules/vitest/vitest.mjs", "run")


def test_the_bundle_that_ships_is_what_js_builds(need_js, tmp_path):
    run(need_js, "node", "build.mjs", str(tmp_path))
    built = {path.name: path.read_text() for path in tmp_path.iterdir()}
    shipped = {path.name: path.read_text() for path in STATIC.iterdir()}
    assert built.keys() == shipped.keys()
    stale = [name for name in built if built[name] != shipped[name]]
    assert not stale, f"{stale} of {STATIC.name}/ are not what js/ builds: run `make js`"
