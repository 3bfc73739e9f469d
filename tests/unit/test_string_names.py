"""Names that code looks up by strings: which names of a module count, and which do not."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import pytest

from lifecycle_magic.fingerprint.string_names import names_by_string, open_lookups

pytestmark = pytest.mark.every_python

SPACE: dict[str, Any] = {"RATE": 1, "do_add": lambda: 1, "k": 2, "x": 3, "In": [], "math": math}


def found(body: str, **options: bool) -> list[str]:
    names: dict[str, Any] = {}
    exec("def f(n=''):\n" + textwrap.indent(textwrap.dedent(body), "    "), names)
    return names_by_string(names["f"].__code__, SPACE, **options)


@pytest.mark.parametrize(
    "body",
    [
        "return globals()['RATE']",
        "globals()['RATE'] = 2",
        "return globals().get('RATE', 0)",
        "return 'RATE' in globals()",
        "return eval('RATE * 2', globals())",
        "exec('y = RATE', globals(), {})",
        "import __main__; return __main__.RATE",
        "from __main__ import RATE",
        "import sys; return getattr(sys.modules['__main__'], 'RATE')",
        "import sys; return sys.modules[__name__].RATE",
        "return [globals()['RATE'] for _ in range(2)]",
        "return n.query('a > @RATE')",
        "return n.f_globals['RATE']",
        "return math.eval('RATE + 1')",
        "import pandas as pd; return pd.eval('RATE + 1')",
        "return 'x', math.eval('RATE + 1')",
        "return math.eval(f'RATE + {n}')",
    ],
)
def test_a_string_names_one_name(body: str) -> None:
    assert found(body) == ["RATE"]
    assert found(body, spelled_out=True) == ["RATE"]


def test_other_strings_of_the_same_code_name_nothing() -> None:
    assert found("n.eval('RATE + 1'); return x.eval('RATE + 1')") == []
    assert found("eval('1 + 1'); return {'k': 1}['k'], 'x', globals()['RATE']") == ["RATE"]
    assert found("return {'k': 1}, 'RATE'") == []


def test_a_docstring_and_the_shell_s_own_names_count_for_nothing() -> None:
    assert found("'''RATE'''\nreturn globals()['In'], eval('1')") == []


def test_a_string_made_at_run_time_means_what_begins_like_it() -> None:
    assert found("return globals()[f'do_{n}']()") == ["do_add"]
    assert found("return globals()[f'do_{n}']()", spelled_out=True) == []


def test_the_lookups_of_strings_made_at_run_time_are_listed() -> None:
    def f(name: str) -> Any:
        return eval(name), globals()[name], eval("1")

    assert open_lookups(f.__code__, {}) == ["eval()", "globals()"]
    assert open_lookups(f.__code__, {"eval": len}) == ["globals()"]
