"""``doctor --modal``: what a script written for Modal has to change, read from its text alone."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.modal_api.table import find
from lifecycle_magic.ui.cli.main import main
from lifecycle_magic.ui.modal_check import report
from lifecycle_magic.ui.modal_check.script import Script


def uses(code: str) -> list[tuple[int, str, str]]:
    """Return line, name and verdict of what does not simply run, without imports."""
    script = Script()
    script.read(textwrap.dedent(code))
    return [
        (one.line, one.name, one.verdict)
        for one in script.uses
        if one.verdict not in ("runs", "import")
    ]


def counted(code: str) -> int:
    script = Script()
    script.read(textwrap.dedent(code))
    return sum(one.verdict == "runs" for one in script.uses)


def test_a_program_that_runs_needs_nothing_but_its_import(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("""\
import modal

app = modal.App("ok", image=modal.Image.debian_slim().pip_install("six", pre=True))


@app.cls(cpu=1, gpu="any", retries=modal.Retries(max_retries=2))
@modal.concurrent(max_inputs=3)
class Model:
    @modal.enter(snap=True)
    def load(self):
        raise SystemExit("no code runs")

    @modal.method()
    def get(self, x):
        return self.get.local(x)


@app.local_entrypoint()
def main():
    print(Model().get.remote(1), list(Model().get.map([1], order_outputs=False)))
""")
    checked = report.check(path)
    assert checked.changes == 0
    assert {one.verdict for one in checked.uses} == {"runs", "import"}
    first, second = report.text(checked).splitlines()
    assert first == f"{path}: 22 run as they stand, 0 ignored, 0 to change"
    assert second == "  line 1  import   import modal: write import lifecycle_magic as modal"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import modal\nmodal.Sandbox.create()", [(2, "Sandbox", "refused")]),
        ("import modal as m\nm.forward(8)", [(2, "forward", "refused")]),
        ("from modal import Cron as C, App\nC('x')", [(2, "Cron", "refused")]),
        (
            "from modal.sandbox import Sandbox\nclass Mine(Sandbox): ...",
            [(2, "modal.sandbox.Sandbox", "refused")],
        ),
        ("import modal.runner\nmodal.runner.run_app()", [(2, "modal.runner.run_app", "refused")]),
        ("from modal.config import config\nconfig['x']", [(2, "modal.config.config", "refused")]),
        ("import modal\n@modal.sessioned\ndef f(): ...", [(2, "sessioned", "refused")]),
        (
            "import modal\ndef f(box: modal.Sandbox, q: 'list[modal.Tunnel]' = None):\n"
            "    from modal import Proxy\n    return box",
            [],
        ),
        ("import modal\nmodal.Nonsense", [(2, "modal.Nonsense", "unknown")]),
        (
            "import modal\napp = modal.App()\n@app.function(region='x', keep_warm=1)\ndef f(): ...",
            [(3, "App.function(region=)", "ignored"), (3, "App.function(keep_warm=)", "renamed")],
        ),
        ("import modal\nmodal.App(schedule=None, region=None)", []),
        ("import modal\nmodal.App(nonsense=1)", [(2, "App(nonsense=)", "unknown")]),
        (
            "from modal import Image\ni = Image.debian_slim()\nj = i.pip_install('a')\n"
            "j.env({}).run_commands('a', gpu='any').publish('x')",
            [(4, "Image.run_commands(gpu=)", "ignored"), (4, "Image.publish", "refused")],
        ),
        (
            "import modal\ni = modal.Image.debian_slim('3.9').entrypoint(['a']).entrypoint([])",
            [(2, "Image.debian_slim('3.9')", "refused"), (2, "Image.entrypoint([...])", "refused")],
        ),
        (
            "import modal\nv = modal.Volume.from_name('a', version=2)\nv.info()\nv.commit()",
            [(2, "Volume.from_name(version=)", "ignored"), (3, "Volume.info", "refused")],
        ),
        (
            "import modal\napp = modal.App()\n@app.function()\ndef f(): ...\n"
            "async def g():\n    c = await f.spawn.aio(1)\n    c.get_call_graph()\n    f.logs",
            [(7, "FunctionCall.get_call_graph", "refused"), (8, "Function.logs", "refused")],
        ),
        (
            "import modal\napp = modal.App()\n@app.cls()\nclass M:\n    def __enter__(self): ...\n"
            "    @modal.method()\n    def f(self):\n        self.f.stats()\n"
            "m = M()\nm.keep_warm(1)\nm.f.stats()\nM.hydrate().f",
            [(5, "def __enter__", "refused"), (8, "Function.stats", "refused"),
             (10, "Obj.keep_warm", "renamed"), (11, "Function.stats", "refused")],
        ),
        (
            "import modal\nM = modal.Cls.from_name('a', 'M', version=3)\nM().logs.info('x')\n"
            "with modal.Queue.ephemeral() as q:\n    q.validate_partition_key('x')",
            [(2, "Cls.from_name(version=)", "refused"),
             (5, "Queue.validate_partition_key", "refused")],
        ),
        (
            "import modal\n@modal.fastapi_endpoint(custom_domains=['x'])\ndef f(): ...",
            [(2, "fastapi_endpoint(custom_domains=)", "refused")],
        ),
        (
            "import modal.experimental\n@modal.experimental.http_server(80, proxy_regions=['x'])\n"
            "class A: ...",
            [(2, "http_server(proxy_regions=)", "ignored")],
        ),
        ("import modal\nif (a := modal.App()) and [a.deploy() for _ in 'x']: ...",
         [(2, "App.deploy", "refused")]),
    ],
)  # fmt: skip
def test_what_needs_a_line_gets_one(code: str, found: list[tuple[int, str, str]]) -> None:
    assert uses(code) == found


@pytest.mark.parametrize(
    "code",
    [
        "image = modal.Image.debian_slim()\nfor image in make(): image.save()",
        "image = modal.Image.debian_slim()\n[image.save() for image in make()]",
        "image = modal.Image.debian_slim()\ndef f(image): image.save()",
        "image = modal.Image.debian_slim()\ndef f():\n    image = open('x')\n    image.save()",
        "image = modal.Image.debian_slim()\nimport image\nimage.save()",
        "image = modal.Image.debian_slim()\ntry: ...\nexcept E as image: image.save()",
        "image = modal.Image.debian_slim()\n(lambda image: image.save())(1)",
        "app = modal.App()\n@app.cls()\nclass M:\n    def logs(self): ...\nM().logs().info()",
        "modal = 3\nmodal.Sandbox",
        "d = modal.Dict.from_name('x')\nd.update({'a': 1}, b=2)",
    ],
)
def test_a_name_that_stands_for_something_else_is_left_alone(code: str) -> None:
    assert uses(f"import modal\n{code}") == []


def test_functions_know_the_names_that_are_assigned_after_them() -> None:
    code = "import modal\ndef f():\n    app.deploy()\napp = modal.App()"
    assert uses(code) == [(3, "App.deploy", "refused")]


def test_other_packages_are_not_read() -> None:
    assert counted("import modal_utils, numpy as modal\nmodal.Sandbox\nfrom .modal import x") == 0


def test_a_verdict_is_that_of_the_list() -> None:
    script = Script()
    script.read("import modal\nmodal.Sandbox()\nmodal.App(region='x')")
    sandbox, region = (one for one in script.uses if one.verdict in ("refused", "ignored"))
    for use, entry in ((sandbox, find("modal", "Sandbox")), (region, find("options", "region="))):
        assert entry is not None
        assert use.note == entry.note


def test_a_notebook_is_read_cell_by_cell(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": "import modal"},
        {"cell_type": "code", "source": ["%load_ext x\n", "import modal\n", "!ls\n"]},
        {"cell_type": "code", "source": "%%bash\nmodal.Sandbox"},
        {"cell_type": "code", "source": "%%time\napp = modal.App()\napp.deploy()"},
    ]
    path = tmp_path / "book.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    [use] = [one for one in report.check(path).uses if one.verdict == "refused"]
    assert (use.cell, use.line, use.name) == (3, 3, "App.deploy")
    assert "cell 3, line 3  change   App.deploy: " in report.text(report.check(path))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("bad.py", "def f(:\n", "line 1 is no Python"),
        ("bad.ipynb", "[]", "it is no notebook"),
        ("bad.ipynb", "{", "can't be read"),
        ("none.py", None, "can't be read"),
    ],
)
def test_what_can_not_be_read_is_named(
    tmp_path: Path, name: str, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InvalidError, match=told):
        report.check(tmp_path / name)


def test_the_exit_code_says_whether_something_has_to_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("import modal\nmodal.App(region='x')\n")
    bad.write_text("import modal\nmodal.Sandbox.create()\n")
    assert main(["doctor", "--modal", str(good)]) == 0
    assert main(["doctor", "--modal", str(good), str(bad)]) == 1
    assert capsys.readouterr().out.count("1 to change") == 1
    assert main(["doctor", "--json", "--modal", str(bad)]) == 1
    records = json.loads(capsys.readouterr().out)
    assert [(one["line"], one["name"], one["verdict"]) for one in records] == [
        (1, "import modal", "import"),
        (2, "Sandbox", "refused"),
    ]
    assert records[1]["file"] == str(bad)
    assert main(["doctor", "--modal", str(tmp_path / "none.py")]) == 1
