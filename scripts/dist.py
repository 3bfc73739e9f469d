#!/usr/bin/env python3
"""Build the sdist and the wheel, check them, and try the wheel as a user gets it.

    scripts/dist.py [FOLDER]     default: dist/

The wheel is built from the sdist, so a file that the sdist lacks is missed here. It is installed
into an environment of its own and runs ``lifecycle-magic demo`` on the process engine, in an empty
folder and without Node.js.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
NODE = {"node", "nodejs", "npm", "npx", "corepack"}
IN_THE_WHEEL = (
    "lifecycle_magic/py.typed",
    "lifecycle_magic/quickstart.ipynb",
    "lifecycle_magic/ui/panel/static/",
    "/jupyter_server_config.d/lifecycle_magic.json",
    "/licenses/LICENSE",
)


def main() -> None:
    """Build, check and try; the exit status is 1 with a message where something fails."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").resolve()
    out.mkdir(parents=True, exist_ok=True)
    for former in [*out.glob("lifecycle_magic-*.whl"), *out.glob("lifecycle_magic-*.tar.gz")]:
        former.unlink()
    run(BIN / "uv", "build", "--quiet", "--out-dir", out, cwd=ROOT)
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    run(BIN / "twine", "check", "--strict", sdist, wheel)
    check_contents(wheel)
    check_version(wheel)
    with tempfile.TemporaryDirectory(prefix="lm-dist-") as folder:
        try_wheel(wheel, Path(folder))
    print(f"dist: {sdist.name} and {wheel.name} are in {out}")


def check_contents(wheel: Path) -> None:
    """Check that the wheel has what is not Python code, and no tests."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [part for part in IN_THE_WHEEL if not any(part in name for name in names)]
    extra = [name for name in names if re.match(r"(tests|benchmarks|scripts|docs|js)/", name)]
    if missing or extra:
        raise SystemExit(f"dist: {wheel.name} lacks {missing or 'nothing'}, and has {extra}")


def check_version(wheel: Path) -> None:
    """Check that the wheel, the package and the newest release of the changelog agree."""
    version = wheel.name.split("-")[1]
    source = (ROOT / "lifecycle_magic" / "__init__.py").read_text()
    if f'__version__ = "{version}"' not in source:
        raise SystemExit(f"dist: {wheel.name} is not of the version in lifecycle_magic/__init__.py")
    releases = re.findall(r"^## (\d+\.\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if releases and releases[0] != version:
        raise SystemExit(f"dist: CHANGELOG.md ends with {releases[0]}, and this is {version}")


def try_wheel(wheel: Path, folder: Path) -> None:
    """Install the wheel into an environment of its own and run the demo outside of the checkout."""
    venv, work = folder / "venv", folder / "work"
    work.mkdir()
    run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, venv)
    python = venv / "bin" / "python"
    run(BIN / "uv", "pip", "install", "--quiet", "--python", python, f"{wheel}[demo]")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "LIFECYCLE_MAGIC_ENGINE": "process",
        "LIFECYCLE_MAGIC_STATE": str(folder / "state"),
        "PATH": os.pathsep.join([str(venv / "bin"), str(path_without_node(folder / "bin"))]),
    }
    environment.pop("VIRTUAL_ENV", None)
    command = venv / "bin" / "lifecycle-magic"
    run(command, "--version", cwd=work, env=environment)
    where = "import lifecycle_magic as lm; print(lm.__file__)"
    imported = run(python, "-c", where, cwd=work, env=environment)
    if not imported.startswith(str(venv)):
        raise SystemExit(f"dist: the demo would run {imported.strip()}, not the wheel")
    shown = run(command, "demo", cwd=work, env=environment)
    if not re.search(r"\d+ of \d+ right", shown):
        raise SystemExit(f"dist: the demo did not print its result:\n{shown}")


def path_without_node(folder: Path) -> Path:
    """Make a folder with a link to each command on the path, except Node.js's."""
    folder.mkdir()
    for entry in os.environ["PATH"].split(os.pathsep):
        for command in Path(entry).glob("*"):
            link = folder / command.name
            if command.name not in NODE and not os.path.lexists(link):
                link.symlink_to(command)
    return folder


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command and return what it printed; end this script if it fails."""
    words = [str(word) for word in command]
    print("dist:", Path(words[0]).name, *words[1:3], flush=True)
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"dist: {' '.join(words)} failed\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
