"""Secrets: where they come from, and that nothing shows their values."""

from __future__ import annotations

import pickle
import subprocess
import traceback
from pathlib import Path

import pytest

import lifecycle_magic as lm
from lifecycle_magic import checks
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.secret import Secret
from lifecycle_magic.session import session

VALUE = "hunter2"


def test_a_dict_gives_its_values() -> None:
    secret = Secret.from_dict({"TOKEN": VALUE, "EMPTY": "", "LEFT_OUT": None})
    assert secret.values() == {"TOKEN": VALUE, "EMPTY": ""}


def test_nothing_that_people_print_shows_a_value() -> None:
    secret = Secret.from_dict({"TOKEN": VALUE})
    assert repr(secret) == "Secret(TOKEN)"
    for told in (str(secret), f"{[secret]}", f"{secret!r}"):
        assert VALUE not in told


def test_a_changed_copy_does_not_change_the_secret() -> None:
    secret = Secret.from_dict({"TOKEN": VALUE})
    secret.values()["TOKEN"] = "changed"
    assert secret.values() == {"TOKEN": VALUE}


def test_equal_secrets_are_equal() -> None:
    assert Secret.from_dict({"A": "1", "B": "2"}) == Secret.from_dict({"B": "2", "A": "1"})
    assert Secret.from_dict({"A": "1"}) != Secret.from_dict({"A": "2"})
    assert pickle.loads(pickle.dumps(Secret.from_dict({"A": "1"}))) == Secret.from_dict({"A": "1"})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"A B": VALUE}, "not a valid name of an environment variable"),
        ({1: VALUE}, "not a valid name of an environment variable"),
        ({"A": VALUE.encode()}, "must be a string, not bytes"),
        ({"A": VALUE + "\0"}, "NUL"),
    ],
)
def test_what_is_no_environment_is_refused_without_its_value(
    given: dict[str, str], why: str
) -> None:
    with pytest.raises(InvalidError, match=why) as caught:
        Secret.from_dict(given)
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_what_is_no_dict_is_refused() -> None:
    with pytest.raises(InvalidError, match="takes a dict"):
        Secret.from_dict([VALUE])  # type: ignore[arg-type]


def test_the_local_environment_gives_what_it_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", VALUE)
    secret = Secret.from_local_environ(["TOKEN"])
    monkeypatch.setenv("TOKEN", "later")
    assert secret.values() == {"TOKEN": VALUE}


def test_all_that_is_not_set_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", VALUE)
    with pytest.raises(InvalidError, match=r"not set here: ONE_MISSING, TWO_MISSING\.") as caught:
        Secret.from_local_environ(["ONE_MISSING", "TOKEN", "TWO_MISSING"])
    assert VALUE not in str(caught.value)


def test_one_name_instead_of_a_list_is_refused() -> None:
    with pytest.raises(InvalidError, match=r"from_local_environ\(\['TOKEN'\]\)"):
        Secret.from_local_environ("TOKEN")


def test_a_dotenv_file_is_found_here_or_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"# a comment\nTOKEN='{VALUE}'\nexport OTHER=2\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "script.py").write_text("")
    expected = {"TOKEN": VALUE, "OTHER": "2"}
    monkeypatch.chdir(tmp_path / "below")
    assert Secret.from_dotenv().values() == expected
    assert Secret.from_dotenv(tmp_path).values() == expected
    assert Secret.from_dotenv(tmp_path / ".env").values() == expected
    assert Secret.from_dotenv(tmp_path / "below" / "script.py").values() == expected


def test_a_dotenv_file_of_another_name_is_found(tmp_path: Path) -> None:
    (tmp_path / ".env.test").write_text("TOKEN=1\n")
    (tmp_path / "prod.env").write_text("TOKEN=2\n")
    assert Secret.from_dotenv(tmp_path, filename=".env.test").values() == {"TOKEN": "1"}
    assert Secret.from_dotenv(tmp_path / ".env.test").values() == {"TOKEN": "1"}
    assert Secret.from_dotenv(tmp_path / "prod.env").values() == {"TOKEN": "2"}


def test_a_dotenv_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"no missing\.env in"):
        Secret.from_dotenv(tmp_path, filename="missing.env")


@pytest.mark.parametrize("name", ["TOKEN", "A"])
def test_a_value_that_no_program_could_get_is_refused_with_the_limit(name: str) -> None:
    most = 131_071 - len(name) - 1
    fits = Secret.from_dict({name: "x" * most}).values()
    subprocess.run(["/bin/true"], env=fits, check=True)
    with pytest.raises(InvalidError, match=rf"{name} has 131072 bytes.*131071 bytes") as refused:
        Secret.from_dict({name: "x" * (most + 1)})
    assert "xxx" not in str(refused.value)
    with pytest.raises(OSError, match="too long"):
        subprocess.run(["/bin/true"], env={name: "x" * (most + 1)}, check=True)


def test_variables_that_leave_no_room_for_a_program_are_refused_with_the_largest() -> None:
    many = {f"V{number}": "x" * 100_000 for number in range(9)}
    checks.check_environment("Model", many)
    with pytest.raises(InvalidError) as caught:
        checks.check_environment("Model", many | {"BIG": "x" * 130_000})
    assert "Model: its 10 environment variables have " in str(caught.value)
    assert "The largest are BIG, V0, V1" in str(caught.value)


def test_a_class_whose_secrets_are_too_large_together_is_refused() -> None:
    @lm.App("large", engine="process").cls(
        secrets=[lm.Secret.from_dict({f"V{number}": "x" * 120_000}) for number in range(10)]
    )
    class Model:
        @lm.method()
        def go(self) -> int:
            return 1

    try:
        with pytest.raises(InvalidError, match="Model: its 10 environment variables"):
            Model().go.remote()
    finally:
        session.close("the test is over")
