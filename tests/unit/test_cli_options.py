"""Every command refuses unknown options and suggests similar ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle_magic.ui import commands
from lifecycle_magic.ui.cli import followed_logs, main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "--nope", "script.py"], "unknown option --nope: it takes --help"),
        (["run", "--nope", "script.py::main", "--x", "3"], "unknown option --nope"),
        (["--nope", "run", "script.py"], "unknown option --nope"),
        (["serve", "script.py", "--adress", "::1"], "--adress: did you mean --address?"),
        (["serve", "script.py", "--no-rel"], "--no-rel: did you mean --no-reload?"),
        (["serve", "script.py", "other.py"], "unexpected argument 'other.py'"),
        (["ps", "--image"], "--image: did you mean --images?"),
        (["logs", "Model", "--biuld"], "--biuld: did you mean --build?"),
        (["history", "--nope"], "unknown option --nope"),
        (["prune", "--volume"], "--volume: did you mean --volumes?"),
        (["deploy", "script.py", "--nam"], "--nam: did you mean --name?"),
        (["doctor", "--nope"], "unknown option --nope"),
        (["demo", "--out", "x"], "unknown option --out"),
    ],
)
def test_an_unknown_option_is_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main.main(words)
    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_options_after_the_script_are_the_entry_point_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = main._parser().parse_args(["run", str(tmp_path / "script.py"), "--nope", "--help"])
    assert given.arguments == ["--nope", "--help"]


@pytest.mark.parametrize(
    "line",
    [
        "ps --images",
        "apps",
        "logs Model",
        "logs Model -n 3 --build",
        "history",
        "prune -y",
        "doctor",
    ],
)
def test_a_command_means_the_same_in_a_notebook_and_in_a_terminal(line: str) -> None:
    terminal = vars(main._parser().parse_args(line.split()))
    command, given = commands.parse(line)
    assert terminal["command"] == command.name
    for name, value in vars(given).items():
        if name != "all":  # only a notebook has a session to name all others by
            assert terminal[name] == value


@pytest.mark.parametrize(
    ("before", "now", "added"),
    [
        ("", "one", "one"),
        ("one\n", "one\ntwo\n", "two\n"),
        ("one\ntwo\n", "two\nthree\n", "three\n"),  # its older part is gone
        ("one\n", "one\n", ""),
        ("all of it", "is gone", "is gone"),
    ],
)
def test_a_followed_log_shows_what_was_added(before: str, now: str, added: str) -> None:
    assert followed_logs.news(before, now) == added
