"""What a user sees in a notebook: real kernels, on both engines."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import ipykernel
import pytest
from kernel.harness import PATIENCE, own_kernel, wait_for
from kernel.notebook import ENGINES, Notebook, open_notebook

pytestmark = [pytest.mark.kernel, pytest.mark.xdist_group("magic")]


@pytest.fixture(scope="module", params=ENGINES)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notebook]:
    """A kernel with the extension loaded, on each engine; its name is the param."""
    with open_notebook(request, tmp_path_factory) as notebook:
        notebook.ok("import os, time")
        yield notebook


@pytest.fixture
def notebook(shared: Notebook) -> Iterator[Notebook]:
    """The module's kernel; what the test started is stopped after it."""
    yield shared
    shared.ok("%lifecycle stop")
    shared.ok(
        "from lifecycle_magic.session import session as _session\n"
        "_session.current().services.clear()"
    )


MODEL = """\
%%lifecycle_cls {line}
FACTOR = {factor}

class Model:
    @lm.enter()
    def load(self):
        {load}
        self.born = os.urandom(8).hex()

    @lm.method()
    def predict(self, x):
        return x * {times}

    @lm.method()
    def who(self):
        return self.born

    @lm.exit()
    def close(self):
        print("closed")
"""


def model(line: str = "", factor: int = 2, times: str = "2", load: str = "self.f = FACTOR") -> str:
    return MODEL.format(line=line, factor=factor, times=times, load=load)


# --- the main path -------------------------------------------------------------------------------


def test_a_cell_builds_warms_and_leaves_a_handle(notebook: Notebook):
    step = f"echo {uuid.uuid4().hex}"  # which no image has yet
    shown = notebook.ok(model(f"--run '{step}'"))
    assert "Model: ready (" in shown.card
    assert "✓ load()" in shown.card
    assert f"✓ {step}" in shown.card
    assert shown.updates > 2
    assert set(shown.displays[0]) == {"text/plain", "text/html"}
    assert "<script" not in shown.page
    assert shown.text == ""
    assert notebook.ok("Model().predict.remote(21)").result == "42"


def test_an_unchanged_cell_does_nothing(notebook: Notebook):
    notebook.ok(model())
    former = notebook.container()
    assert "unchanged" in notebook.ok(model()).card
    assert notebook.container() == former


def test_an_edited_method_goes_under_the_live_instance(notebook: Notebook):
    notebook.ok(model())
    born = notebook.ok("Model().who.remote()").result
    card = notebook.ok(model(times="3")).card
    assert "predict() reloaded; the state that load() loaded is kept" in card
    assert notebook.ok("Model().predict.remote(1)").result == "3"
    assert notebook.ok("Model().who.remote()").result == born


def test_a_changed_constant_of_enter_brings_up_a_new_container(notebook: Notebook):
    notebook.ok(model())
    former = notebook.container()
    card = notebook.ok(model(factor=5)).card
    assert "because FACTOR changed" in card
    assert "previous container" in card
    assert notebook.container() != former
    wait_for(lambda: former in notebook.ok("%lifecycle history").text, "the former one's end")
    history = notebook.ok("%lifecycle history -n 100").text
    entry = history[history.index(former) :].splitlines()
    assert entry[1].strip().startswith("close()  ok in")


def test_fresh_replaces_what_is_unchanged(notebook: Notebook):
    notebook.ok(model())
    former = notebook.container()
    assert "because of --fresh" in notebook.ok(model("--fresh")).card
    assert notebook.container() != former


def test_rebuild_runs_the_build_hooks_again(notebook: Notebook):
    cell = """\
        %%lifecycle_cls {line}
        class Baked:
            @lm.build()
            def bake(self):
                with open("baked", "w") as file:
                    file.write(os.urandom(8).hex())

            @lm.method()
            def read(self):
                return open("baked").read()
        """
    assert "✓ bake()" in notebook.ok(cell.format(line="--rebuild")).card
    first = notebook.ok("Baked().read.remote()").result
    assert "bake()" not in notebook.ok(cell.format(line="--fresh")).card
    assert notebook.ok("Baked().read.remote()").result == first
    card = notebook.ok(cell.format(line="--rebuild")).card
    assert "✓ bake()" in card
    assert "because of --rebuild" in card
    assert notebook.ok("Baked().read.remote()").result != first


def test_lazy_starts_nothing_until_the_first_call(notebook: Notebook):
    assert "declared" in notebook.ok(model("--lazy")).card
    assert "declared" in notebook.ok("%lifecycle").displays[0]["text/plain"]
    assert notebook.ok("Model().predict.remote(2)").result == "4"


def test_a_class_with_arguments_starts_at_its_first_call(notebook: Notebook):
    shown = notebook.ok(
        """\
        %%lifecycle_cls
        class Sized:
            def __init__(self, size):
                self.size = size
            @lm.method()
            def get(self):
                return self.size
        """
    )
    assert "Sized(...) takes arguments" in shown.card
    assert notebook.ok("Sized(3).get.remote(), Sized(4).get.remote()").result == "(3, 4)"


def test_two_classes_in_a_cell_have_a_card_each(notebook: Notebook):
    shown = notebook.ok(
        """\
        %%lifecycle_cls
        class Base:
            @lm.enter()
            def load(self):
                self.x = 1
        class One(Base):
            @lm.method()
            def get(self):
                return self.x
        class Two(Base):
            @lm.method()
            def get(self):
                return self.x + 1
        """
    )
    assert len(shown.displays) == 2
    assert notebook.ok("One().get.remote(), Two().get.remote(), Base").result == (
        "(1, 2, __main__.Base)"
    )


def test_the_line_is_expanded_and_its_options_hold(notebook: Notebook):
    notebook.ok("greeting = 'hello there'")
    notebook.ok(
        """\
        %%lifecycle_cls --env "GREETING={greeting}" --cpu 1
        class Polite:
            @lm.method()
            def greet(self):
                return os.environ["GREETING"]
        """
    )
    assert notebook.ok("Polite().greet.remote()").result == "'hello there'"


def test_the_value_of_the_last_line_is_shown(notebook: Notebook):
    assert notebook.ok(model() + "\nFACTOR + 1\n").result == "3"


def test_what_enter_prints_is_seen_in_the_cell(notebook: Notebook):
    assert notebook.ok(model(load="print('loading')")).text == "loading\n"


# --- mistakes ------------------------------------------------------------------------------------


def test_a_failing_enter_keeps_the_former_code_running(notebook: Notebook):
    notebook.ok(model())
    former = notebook.container()
    shown = notebook.run(model(load="1 / 0", times="9"))
    assert shown.error == "ZeroDivisionError: division by zero"
    assert "--> " in shown.traceback
    assert "1 / 0" in shown.traceback
    assert "lifecycle_magic/" not in shown.traceback
    assert "run_cell_magic" not in shown.traceback
    assert "Model keeps the code that it had" in shown.traceback
    assert "Model keeps the code that it had" in shown.card
    assert "✗ load()" in shown.card
    assert notebook.ok("Model().predict.remote(1)").result == "2"
    assert notebook.container() == former
    assert "ready" not in notebook.ok(model(times="4")).card
    assert notebook.ok("Model().predict.remote(1)").result == "4"


def test_a_first_cell_that_fails_is_tried_again_by_the_next_call(notebook: Notebook):
    notebook.ok("open('flag', 'w').close()")
    load = "assert not os.path.exists(FLAG)"
    flag = "%%lifecycle_cls --volume .:{os.getcwd()}\nFLAG = os.path.abspath('flag')"
    code = model(load=load).replace("%%lifecycle_cls ", flag)
    assert notebook.run(code).error == "AssertionError: "
    notebook.ok("os.remove('flag')")
    assert notebook.ok("Model().predict.remote(1)").result == "2"


def test_a_failing_image_step_is_told_with_its_last_lines_and_exit_code(notebook: Notebook):
    notebook.ok(model())
    shown = notebook.run(model("--run 'echo to be seen; exit 3'"))
    assert shown.error is not None
    assert shown.error.startswith("BuildError: Model: ")
    for told in ("echo to be seen; exit 3", "exit code 3", "\nto be seen"):
        assert re.search(told.replace("\n", r"\n\s*"), shown.error)
    assert "✗ echo to be seen; exit 3" in shown.card
    assert re.search(r"\n\s+to be seen\n", shown.card)
    assert notebook.ok("Model().predict.remote(1)").result == "2"


def test_an_image_that_does_not_exist_is_named_and_the_next_cell_works(notebook: Notebook):
    name = "localhost:1/no-such-image"
    shown = notebook.run(model(f"--image {name}"))
    assert shown.error is not None
    assert name in shown.error or "from_registry" in shown.error  # the process engine has none
    assert shown.error.startswith(("BuildError: ", "EngineError: ", "InvalidError: "))
    notebook.ok(model())
    assert notebook.ok("Model().predict.remote(1)").result == "2"


def test_a_pip_package_that_does_not_exist_is_named_and_the_next_cell_works(notebook: Notebook):
    name = "lifecycle-magic-no-such-package"
    shown = notebook.run(model(f"--pip {name}"))
    assert shown.error is not None
    assert shown.error.startswith("BuildError: Model: ")
    assert name in shown.error
    assert "✗" in shown.card
    notebook.ok(model())
    assert notebook.ok("Model().predict.remote(1)").result == "2"


def test_a_syntax_error_is_shown_as_usual_and_changes_nothing(notebook: Notebook):
    notebook.ok(model())
    shown = notebook.run(model(times="3)"))
    assert shown.error is not None
    assert shown.error.startswith("SyntaxError: unmatched ')'")
    assert "return x * 3)" in shown.traceback
    assert "File /" not in shown.traceback
    assert shown.displays == []
    assert notebook.ok("Model().predict.remote(1)").result == "2"


def test_a_syntax_error_in_a_container_is_shown_with_the_containers_frames(notebook: Notebook):
    cell = """
    %%lifecycle_cls
    import lifecycle_magic as lm

    class Templates:
        @lm.enter()
        def load(self):
            compile("a b", "<template>", "exec")

        @lm.method()
        def fill(self):
            return 1
    """
    shown = notebook.run(cell)
    assert shown.error is not None
    assert shown.error.startswith("SyntaxError: invalid syntax")
    assert 'compile("a b", "<template>", "exec")' in shown.traceback
    assert "lifecycle_magic/" not in shown.traceback
    assert notebook.ok(cell.replace("a b", "a")).error is None


def test_an_exception_in_the_cell_is_shown_as_usual_and_changes_nothing(notebook: Notebook):
    notebook.ok(model())
    shown = notebook.run(model(times="9") + "\nnope\n")
    assert shown.error == "NameError: name 'nope' is not defined"
    assert "nope" in shown.traceback
    assert "File /" not in shown.traceback
    assert "run_cell_magic" not in shown.traceback
    assert notebook.ok("Model().predict.remote(1)").result == "2"


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (model("--memroy 3"), "did you mean --memory?"),
        (model("--memory -1"), "memory=-1 must be"),
        (model("--image 'No Such'"), "is not a valid name of an image"),
        ("%%lifecycle_cls\nclass Plain: ...", "class Plain has no lifecycle decorator"),
        ("%%lifecycle_cls\nx = 1", "defines no class"),
        ("%lifecycle stopp", "did you mean stop?"),
        ("%lifecycle stop Modell", "no class or container is named 'Modell'"),
        ("%lifecycle logs", "%lifecycle logs: the following arguments are required: name"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_mend(notebook: Notebook, cell: str, told: str):
    shown = notebook.run(cell)
    assert shown.error is not None
    assert shown.error.startswith("InvalidError: ")
    assert told in shown.error
    assert shown.traceback.count("\n") <= 1
    assert notebook.ok("1 + 1").result == "2"


def test_interrupting_the_cell_ends_it_and_the_next_one_works(notebook: Notebook):
    load = "print('loading', flush=True); time.sleep(600)"
    shown = notebook.run(model(load=load), interrupt_at="loading")
    assert shown.error == "KeyboardInterrupt: "
    assert "File " not in shown.traceback
    assert "Model: interrupted" in shown.card
    notebook.ok(model())
    assert notebook.ok("Model().predict.remote(1)").result == "2"


# --- the card's place ----------------------------------------------------------------------------


@pytest.mark.skipif(
    ipykernel.version_info < (7,), reason="what a thread sends there belongs to the running cell"
)
def test_an_event_of_another_thread_reaches_the_cell_of_its_card(notebook: Notebook):
    began = notebook.ok(
        """\
        import threading
        from lifecycle_magic.session import session as _session
        from lifecycle_magic.ui.notebook.card import Card, NotebookOutput
        from lifecycle_magic.services.service import Service
        from lifecycle_magic.spec.reading import read_class
        from lifecycle_magic.lifecycle.states import Notice

        class Quiet:
            @lm.method()
            def f(self): ...

        spec = read_class(Quiet)
        current = _session.current()
        card = Card(spec, Service(current, "Quiet"), NotebookOutput()).__enter__()
        go, done = threading.Event(), threading.Event()

        def later():
            go.wait()
            current.bus.publish(Notice("Quiet", "from a thread", 0.0))
            done.set()

        threading.Thread(target=later, daemon=True).start()
        """
    )
    assert "from a thread" not in began.card
    during = notebook.ok(
        "print('mine')\ngo.set(); done.wait()\ncard.__exit__(None, None, None)\nprint('mine too')"
    )
    assert (during.text, during.displays) == ("mine\nmine too\n", [])
    assert "from a thread" in began.card
    assert began.card.startswith("✓ Quiet")


# --- %lifecycle ----------------------------------------------------------------------------------


def test_ps_is_a_table_as_text_and_html(notebook: Notebook):
    notebook.ok(model())
    notebook.ok("Model().predict.remote(1)")
    shown = notebook.ok("%lifecycle ps")
    (line,) = [line for line in shown.card.splitlines() if line.startswith("Model")]
    assert notebook.container() in line
    assert "idle" in line
    assert "MiB" in line
    assert "<table" in shown.page
    assert notebook.container() in notebook.ok("%lifecycle ps --all").card


# --- methods that answer HTTP --------------------------------------------------------------------

SITE = """\
%%lifecycle_cls
class Site:
    @lm.wsgi_app()
    def app(self):
        def answer(environ, start):
            start("200 OK", [])
            return [b"hello"]
        return answer
"""


def test_an_address_that_answers_http_is_in_the_card_and_in_ps(notebook: Notebook):
    shown = notebook.ok(SITE)
    found = re.search(r"app answers at (http://127\.0\.0\.1:\d+)", shown.card)
    assert found
    assert f"href='{found[1]}'" in shown.page
    with urllib.request.urlopen(found[1], timeout=PATIENCE) as answer:
        assert answer.read() == b"hello"
    ps = notebook.ok("%lifecycle ps")
    assert f"Site.app answers at {found[1]}" in ps.card
    assert f"Site.app answers at {found[1]}" in ps.page


def test_a_cell_whose_addresses_need_a_server_that_is_not_installed_runs_and_says_so(
    notebook: Notebook,
):
    notebook.ok(
        "import sys\n"
        "_kept = {n: m for n, m in sys.modules.items()"
        " if n.partition('.')[0] == 'uvicorn' or n.startswith('lifecycle_magic.web.')}\n"
        "for _name in _kept: del sys.modules[_name]\n"
        "sys.modules['uvicorn'] = None"
    )
    try:
        shown = notebook.ok(SITE)
    finally:
        notebook.ok("del sys.modules['uvicorn']; sys.modules.update(_kept)")
    assert "✓ Site: ready" in shown.card
    assert "uvicorn is not installed in the kernel's environment. Fix: pip install" in shown.card


def test_a_map_shows_its_progress_in_one_output_that_stays(notebook: Notebook):
    notebook.ok("from lifecycle_magic.calls.map import progress_output as _shown")
    notebook.ok(model(times="(1 // x)"))
    notebook.ok("_shown.DELAY_SECONDS, _before = 0, _shown.DELAY_SECONDS")  # a map may be quick
    try:
        shown = notebook.ok("_ = list(Model().predict.map([1, 0, 2], return_exceptions=True))")
        assert re.fullmatch(
            r"Model\(\)\.predict: 3 of 3, 1 failed, (?:[\d.,]+/s, )?in [\d.]+ m?s", shown.card
        )
        assert "<progress" not in shown.page
        assert shown.text == ""
        shown = notebook.run("_ = list(Model().predict.map([1, 0, 2]))")
        assert shown.error == "ZeroDivisionError: integer division or modulo by zero"
        assert shown.card.endswith("ended by ZeroDivisionError")
        shown = notebook.ok("for _ in Model().predict.map(iter([1, 2])):\n    pass")
        assert shown.card.startswith("Model().predict: 2")
        assert notebook.ok("_ = list(Model().predict.map([1], progress=False))").displays == []
        shown = notebook.ok("_ = [a async for a in Model().predict.map.aio([1, 2])]")
        assert shown.card.startswith("Model().predict: 2 of 2")
    finally:
        notebook.ok("_shown.DELAY_SECONDS = _before")


def test_logs_are_the_last_lines_that_a_class_printed(notebook: Notebook):
    notebook.ok(model(load="print('one'); print('two')"))
    wait_for(  # they come by another way than the call's own reply
        lambda: notebook.ok("%lifecycle logs Model -n 2").text == "one\ntwo\n", "the last line"
    )
    assert notebook.ok("%lifecycle logs Model -n 1").text == "two\n"


def test_stop_waits_and_tells_how_it_went(notebook: Notebook):
    notebook.ok(model())
    name = notebook.container()
    told = notebook.ok("%lifecycle stop Model").text
    assert "Model  exited after" in told
    assert f"[{name}]" in told
    assert "close()  ok in" in told
    assert "cold" in notebook.ok("%lifecycle ps").card
    assert notebook.ok("%lifecycle stop").text == "nothing was running\n"
    assert notebook.ok("Model().predict.remote(1)").result == "2"


def test_one_container_can_be_stopped_by_its_name(notebook: Notebook):
    notebook.ok(model())
    name = notebook.container()
    assert f"[{name}]" in notebook.ok(f"%lifecycle stop {name}").text


def test_restart_brings_up_a_new_container_first(notebook: Notebook):
    notebook.ok(model())
    former = notebook.container()
    assert "new containers are ready" in notebook.ok("%lifecycle restart Model").text
    assert notebook.container() != former


def test_doctor_tells_of_engine_sandbox_and_state(notebook: Notebook):
    told = notebook.ok("%lifecycle doctor").text
    for what in ("Python", "Docker", "process engine", "sandbox", "state", "disk", "sessions"):
        assert re.search(rf"^(ok|warn|fail) +{what} ", told, re.MULTILINE)


def test_an_exported_script_gives_what_the_notebook_gave(notebook: Notebook, tmp_path: Path):
    notebook.ok("import subprocess, sys\nPLUS = 5\ndef more(x):\n    return x + PLUS")
    notebook.ok(
        """\
        %%lifecycle_cls --env WORD=hi
        class Model:
            @lm.enter()
            def load(self):
                self.word = os.environ["WORD"]

            @lm.method()
            def tell(self, x: int):
                return f"{self.word} {more(x)}"
        """
    )
    script, result = tmp_path / "app.py", tmp_path / "result"
    shown = notebook.ok(f"%lifecycle export Model {script}")
    assert f"wrote {script}: Model" in shown.text
    assert "subprocess" not in script.read_text()
    notebook.ok(
        "subprocess.run([sys.executable, '-m', 'lifecycle_magic', 'run', '-q', '--write-result', "
        f"'{result}', '{script}::Model.tell', '--x', '4'], check=True)"
    )
    assert result.read_text() == notebook.ok("print(Model().tell.remote(4), end='')").text == "hi 9"


def test_names_and_commands_complete(notebook: Notebook):
    notebook.ok(model("--lazy"))

    def complete(code: str) -> list[str]:
        client = notebook.kernel.client
        reply = client.complete(code, reply=True, timeout=PATIENCE)
        return list(reply["content"]["matches"])

    assert "history" in complete("%lifecycle hi")
    assert "Model" in complete("%lifecycle stop Mo")


def test_help_lists_every_option(notebook: Notebook):
    client = notebook.kernel.client
    reply = client.execute("%%lifecycle_cls?", reply=True, timeout=PATIENCE)
    (page,) = reply["content"]["payload"]
    for told in ("--pip PKG...", "--scaledown-window SECONDS", "--rebuild", "{expression}"):
        assert told in page["data"]["text/plain"]


# --- the extension -------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Notebook]:
    """A kernel of the test's own, on the process engine."""
    with own_kernel(tmp_path / "tmp", {"LIFECYCLE_MAGIC_ENGINE": "process"}) as kernel:
        yield Notebook(kernel)


@pytest.mark.process
def test_unloading_tells_how_each_container_ended_and_loading_again_works(own: Notebook):
    own.ok("%load_ext lifecycle_magic\nimport lifecycle_magic as lm, os, time")
    own.ok(model())
    told = own.ok("%unload_ext lifecycle_magic").text
    assert "Model  exited after" in told
    assert "%unload_ext lifecycle_magic" in told
    assert "close()  ok in" in told
    missing = own.run("%lifecycle")
    assert missing.error is not None or "not found" in missing.text
    assert own.ok("Model().predict.remote(1)").result == "2"  # a handle outlives the extension
    own.ok("%load_ext lifecycle_magic")
    assert "unchanged" in own.ok(model()).card
    own.ok("%unload_ext lifecycle_magic")


def test_loading_imports_no_engine_and_no_widgets():
    code = """\
        import sys
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        shell.run_line_magic("load_ext", "lifecycle_magic")
        heavy = {"docker", "requests", "ipywidgets", "anywidget", "cloudpickle", "tblib", "uv"}
        print(sorted(heavy & set(sys.modules)))
        shell.run_line_magic("unload_ext", "lifecycle_magic")
        """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n", told.stdout + told.stderr


@pytest.mark.process
def test_a_plain_ipython_shows_lines(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "process")
    cells = [
        "%load_ext lifecycle_magic\nimport lifecycle_magic as lm, os, time",
        model(),
        "print(Model().predict.remote(4))",
        "%lifecycle",
        model(load="1 / 0"),
        "%unload_ext lifecycle_magic",
    ]
    code = f"""\
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance(colors="NoColor")
        for cell in {cells!r}:
            shell.run_cell(cell)
        """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    ).stdout
    lines = told.splitlines()
    assert any(re.fullmatch(r"Model: ✓ load\(\)  .*s", line) for line in lines)
    assert any(line.startswith("✓ Model: ready (process, ") for line in lines)
    assert "8" in lines
    assert any(line.startswith("Model  lm-model-") for line in lines)
    assert "✗ Model: ZeroDivisionError: division by zero" in told
    assert "----> " in told
    assert "lifecycle_magic/" not in told
    assert any("exited after" in line for line in lines)


def test_the_card_names_the_module_whose_edit_brought_new_containers(notebook: Notebook):
    cell = """\
    %%lifecycle_cls
    import helpers_of_this
    class Uses:
        @lm.method()
        def double(self, x):
            return helpers_of_this.double(x)
    """
    notebook.ok("import pathlib, sys, tempfile; near = pathlib.Path(tempfile.mkdtemp())")
    notebook.ok("sys.path.insert(0, str(near)); file = near / 'helpers_of_this.py'")
    write = "_ = file.write_text('def double(x): return 2 * x{}')"
    notebook.ok(write.format(""))
    notebook.ok(cell)
    assert notebook.ok("Uses().double.remote(4)").result == "8"
    notebook.ok(write.format(" + 1"))
    shown = notebook.ok(cell)
    assert "new containers, because helpers_of_this.py" in shown.card
    assert notebook.ok("Uses().double.remote(4)").result == "9"
