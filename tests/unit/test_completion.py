"""Completion in a shell: the program answers what can be typed next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.host import secret_store
from lifecycle_magic.ui.cli import completion
from lifecycle_magic.ui.cli.main import main

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file into which the program writes its answer, in place of the shell's descriptor."""
    pytest.importorskip("argcomplete")
    monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setenv("_ARGCOMPLETE_IFS", "\n")
    monkeypatch.setenv("_ARGCOMPLETE_STDOUT_FILENAME", str(tmp_path / "answer"))
    return tmp_path / "answer"


def ask(answers: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    subprocess.run([sys.executable, "-m", "lifecycle_magic"], check=True)
    return {one.strip() for one in answers.read_text().split("\n")}


def test_commands_options_and_names_are_offered(
    answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_store.create("token", {"A": "1"})
    assert {"run", "volume", "doctor"} <= ask(answers, "lifecycle-magic ", monkeypatch)
    assert ask(answers, "lifecycle-magic volume re", monkeypatch) == {"rename"}
    assert "--modal" in ask(answers, "lifecycle-magic doctor --", monkeypatch)
    assert ask(answers, "lifecycle-magic secret delete ", monkeypatch) >= {"token"}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_for_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("argcomplete")
    assert main(["completion", shell]) == 0
    assert "lifecycle-magic" in capsys.readouterr().out


def test_without_argcomplete_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    with pytest.raises(InvalidError, match=r"pip install 'lifecycle-magic\[completion\]'"):
        completion.run(completion.argparse.Namespace(shell="bash"))
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    completion.answer(completion.argparse.ArgumentParser())
