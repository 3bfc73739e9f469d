"""The live panel as its users meet it: in JupyterLab, with containers that really run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from browser.lab import Notebook, dress, execute

Open = Callable[..., Notebook]

PANEL = """
%load_ext lifecycle_magic
%lifecycle
"""

MODEL = """
%%lifecycle_cls --exit-grace 20
import lifecycle_magic as lm, os, time

class Model:
    @lm.enter()
    def load(self):
        print("loading weights")
        self.weights = bytearray(1 << 20)

    @lm.method()
    def wait(self, path):
        print("waiting", flush=True)
        while not os.path.exists(path):
            time.sleep(0.02)

    @lm.method()
    def say(self, text):
        print(text, flush=True)

    @lm.method()
    def die(self):
        print("my last words", flush=True)
        os.kill(os.getpid(), 9)

    @lm.exit()
    def close(self):
        print("closing")
"""

HOLD = """
import os, time
while not os.path.exists({file!r}):
    time.sleep(0.02)
"""


def button(part: Locator, name: str) -> Locator:
    return part.get_by_role("button", name=name, exact=True)


def row(notebook: Notebook, state: str) -> Locator:
    """The containers in that state."""
    return notebook.panel.locator(f".lcm-container[data-state={state}]")


def confirm(notebook: Notebook, name: str) -> str:
    """Press a button that destroys, and the one that means it; what it said would be lost."""
    button(notebook.panel, name).click()
    question = notebook.panel.get_by_role("alertdialog")
    told = question.inner_text()
    question.get_by_role("button").first.click()
    return told


AXE = """async source => {
    new Function(source)();
    const found = await axe.run(document.querySelector(".lcm-panel"), {
        runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return found.violations.flatMap(one => one.nodes.map(
        node => `${one.id}: ${one.help}: ${node.html} ${node.any.map(any => any.message).join()}`));
}"""


@pytest.fixture
def accessible(need_js: Path) -> Callable[..., None]:
    """Checks the panel as it stands against axe-core's rules."""
    axe = (need_js / "node_modules" / "axe-core" / "axe.min.js").read_text()

    def check(notebook: Notebook, look: object = None) -> None:
        notebook.panel.scroll_into_view_if_needed()
        assert (look, notebook.page.evaluate(AXE, axe)) == (look, [])

    return check


# --- beginning -----------------------------------------------------------------------------------


LEFT = """
import os
import lifecycle_magic as lm

app = lm.App("left", engine="process")

@app.cls(keep="15m")
class Left:
    @lm.method()
    def one(self):
        return 1

assert Left().one.remote() == 1
os._exit(0)
"""


@pytest.mark.process
def test_an_empty_session_explains_how_to_begin_and_shows_what_an_earlier_one_left(
    open_notebook: Open, accessible, tmp_path: Path
):
    subprocess.run([sys.executable, "-c", LEFT], cwd=tmp_path, check=True)
    notebook = open_notebook(PANEL)
    notebook.run(0)
    expect(notebook.panel).to_contain_text("No container runs in this session yet.")
    expect(notebook.panel.locator("pre")).to_contain_text("%%lifecycle_cls")
    expect(notebook.panel.get_by_role("status").first).to_have_text("live")
    expect(notebook.page.get_by_text("This was the live panel")).to_be_hidden()
    kept = notebook.panel.get_by_role("listitem").filter(has_text="Left")
    expect(kept).to_contain_text(f"process  ·  folder {tmp_path}")
    expect(kept).to_contain_text(re.compile(r"14 min \d+ s left"))
    accessible(notebook)
    kept.get_by_role("button").click()
    accessible(notebook)
    kept.get_by_role("alertdialog").get_by_role("button").first.click()
    expect(kept).to_have_count(0)


# --- a container's life --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
    ],
)
def test_it_follows_a_container_all_the_way_and_stops_it_in_the_middle_of_a_cell(
    engine: str,
    open_notebook: Open,
    accessible: Callable[[Notebook], None],
    tmp_path: Path,
    request: pytest.FixtureRequest,
):
    if engine == "docker":
        request.getfixturevalue("need_docker")
    start, enter, never = tmp_path / "start", tmp_path / "enter", tmp_path / "never"
    # Python imports it before the guest's first line, if the image has the variable: those of the
    # class arrive with the class.
    (tmp_path / "sitecustomize.py").write_text(HOLD.format(file=str(start)))
    image = f"lm.Image.debian_slim().env({{'PYTHONPATH': {str(tmp_path)!r}}})"
    options = (
        f"image={image}, volumes={{{str(tmp_path)!r}: lm.Volume.from_path({str(tmp_path)!r})}}"
    )
    cell = MODEL.replace("%%lifecycle_cls --exit-grace 20\n", "").replace(
        "class Model", f"@lm.App(engine={engine!r}).cls(exit_grace=20, {options})\nclass Model"
    )
    cell = cell.replace('print("loading weights")', f"self.wait({str(enter)!r})")
    cell += "\nModel().say.remote('up')"
    cell = cell.replace('print("closing")', f"self.wait({str(tmp_path / 'exit')!r})")
    notebook = open_notebook(PANEL, cell, f"Model().wait.remote({str(never)!r})")
    notebook.run(0)

    notebook.begin(1)
    expect(row(notebook, "starting")).to_have_count(1)
    accessible(notebook)
    start.touch()
    expect(row(notebook, "entering")).to_have_count(1)
    enter.touch()
    expect(row(notebook, "idle")).to_have_count(1)
    notebook.wait(1)

    notebook.begin(2)
    expect(row(notebook, "busy")).to_have_count(1)
    expect(row(notebook, "busy").locator("[data-column=Memory]")).to_contain_text("MiB")
    accessible(notebook)
    told = confirm(notebook, "Stop Model")
    assert "What load() made is lost. 1 running call is cancelled first, then close() runs." in told
    assert "stopped in the panel" in notebook.failure(2)
    expect(row(notebook, "exiting")).to_have_count(1)
    accessible(notebook)
    (tmp_path / "exit").touch()
    expect(row(notebook, "exited")).to_contain_text("close() took")
    expect(button(notebook.panel, "Warm Model")).to_be_visible()
    accessible(notebook)


@pytest.mark.process
def test_buttons_restart_stop_and_warm(open_notebook: Open):
    notebook = open_notebook(PANEL, MODEL)
    notebook.run(0)
    notebook.run(1)
    name = row(notebook, "idle").locator("code")
    former = name.inner_text()
    assert "New containers start first." in confirm(notebook, "Restart Model")
    expect(row(notebook, "exited").locator("code")).to_have_text(former)
    confirm(notebook, f"Stop container {name.inner_text()}")
    expect(row(notebook, "exited")).to_have_count(2)
    button(notebook.panel, "Warm Model").click()
    expect(row(notebook, "idle")).to_have_count(1)


@pytest.mark.process
def test_the_keyboard_alone_is_enough(open_notebook: Open):
    notebook = open_notebook(PANEL, MODEL)
    notebook.run(0)
    notebook.run(1)
    press = notebook.page.keyboard.press
    expect(row(notebook, "idle")).to_be_visible()
    notebook.panel.get_by_role("button", name="Model", exact=True).focus()
    press("Enter")
    expect(row(notebook, "idle")).to_be_hidden()
    press("Enter")
    press("Tab")
    expect(button(notebook.panel, "Restart Model")).to_be_focused()
    press("Tab")
    expect(button(notebook.panel, "Stop Model")).to_be_focused()
    press("Enter")
    press("Escape")
    expect(button(notebook.panel, "Stop Model")).to_be_focused()
    press("Enter")
    press("Enter")  # a second Enter keeps it
    expect(button(notebook.panel, "Stop Model")).to_be_focused()
    expect(row(notebook, "idle")).to_have_count(1)
    press("Enter")
    press("Shift+Tab")
    press("Enter")
    expect(row(notebook, "exited")).to_have_count(1)


@pytest.mark.process
def test_a_killed_container_shows_as_failed_with_its_reason_and_last_words(
    open_notebook: Open, accessible: Callable[[Notebook], None]
):
    dies = """
    try:
        Model().die.remote()
    except lm.exception.ContainerDied as error:
        print("it died")
    """
    notebook = open_notebook(PANEL, MODEL, dies)
    notebook.run(0)
    notebook.run(1)
    assert "it died" in notebook.run(2)
    failed = row(notebook, "failed")
    expect(failed).to_contain_text("its worker died of SIGKILL (exit code 137)")
    expect(failed.locator("pre")).to_contain_text("my last words")
    accessible(notebook)


@pytest.mark.process
def test_a_start_that_fails_in_the_panel_says_why(open_notebook: Open, tmp_path: Path):
    broken = tmp_path / "broken"
    cell = MODEL.replace(
        'print("loading weights")', f"assert not os.path.exists({str(broken)!r}), 'no weights'"
    ).replace("_cls", f"_cls --volume {tmp_path}:{tmp_path}")
    notebook = open_notebook(PANEL, cell)
    notebook.run(0)
    notebook.run(1)
    broken.touch()
    confirm(notebook, "Restart Model")
    expect(notebook.panel.get_by_label("Notices")).to_contain_text(
        "could not restart Model: AssertionError: no weights"
    )
    expect(row(notebook, "idle")).to_have_count(1)
    dismiss = button(notebook.panel, "Dismiss this notice")
    expect(dismiss).to_have_count(2)  # the other one tells of the engine
    dismiss.first.click()
    expect(dismiss).to_be_focused()
    notebook.page.keyboard.press("Enter")
    expect(notebook.panel.get_by_role("heading", name="Lifecycle")).to_be_focused()


@pytest.mark.process
def test_a_build_shows_step_by_step_and_stop_ends_it(
    open_notebook: Open, accessible: Callable[[Notebook], None], tmp_path: Path
):
    go = tmp_path / "go"
    hook = f"""
    @lm.build()
    def bake(self):
        self.wait({str(go)!r})

    @lm.enter()
    def load(self):"""
    cell = MODEL.replace("\n    @lm.enter()\n    def load(self):", hook, 1).replace(
        "_cls", f"_cls --volume {tmp_path}:{tmp_path}"
    )
    notebook = open_notebook(PANEL, cell)
    notebook.run(0)
    notebook.begin(1)
    build = notebook.panel.locator(".lcm-build")
    expect(build.locator("li[data-status=running]")).to_contain_text("bake()")
    expect(build.locator("summary")).to_contain_text("Building the image: step")
    expect(row(notebook, "busy").locator(".lcm-hook")).to_have_text("bake()")
    expect(row(notebook, "busy").locator("[data-column=Memory]")).to_contain_text("MiB")
    button(notebook.panel, "Stop Model").click()
    expect(notebook.panel.get_by_role("alertdialog")).to_contain_text("during bake()")
    accessible(notebook)
    notebook.panel.get_by_role("alertdialog").get_by_role("button").first.click()
    expect(build.locator("summary")).to_contain_text("Image build failed: bake()")
    expect(notebook.root).to_contain_text("BuildError")


@pytest.mark.process
def test_an_address_that_answers_http_is_a_link(
    open_notebook: Open, accessible: Callable[[Notebook], None]
):
    site = """
    %%lifecycle_cls
    import lifecycle_magic as lm

    class Site:
        @lm.wsgi_app()
        def app(self):
            def answer(environ, start):
                start("200 OK", [("Content-Type", "text/plain")])
                return [b"hello from the container"]
            return answer
    """
    notebook = open_notebook(PANEL, site)
    notebook.run(0)
    notebook.run(1)
    link = notebook.panel.locator(".lcm-web a")
    expect(link).to_have_attribute("rel", "noopener")
    accessible(notebook)
    with notebook.page.context.expect_page() as opened:
        link.click()
    expect(opened.value.locator("body")).to_have_text("hello from the container")
    opened.value.close()


# --- logs ----------------------------------------------------------------------------------------


@pytest.mark.process
def test_a_log_follows_is_searched_and_does_nothing_but_stand_there(
    open_notebook: Open, accessible: Callable[[Notebook], None]
):
    says = r"""
    Model().say.remote("\x1b[31mred\x1b[0m <img src=x onerror='window.hurt=1'> \x00\x07\x9b2J")
    """
    notebook = open_notebook(PANEL, MODEL, says, "Model().say.remote('one more')")
    notebook.run(0)
    notebook.run(1)
    button(notebook.panel, "Logs of Model").click()
    log = notebook.panel.get_by_role("log")
    expect(log).to_contain_text("loading weights")
    notebook.run(2)
    expect(log.locator(".lcm-f1")).to_have_text("red")
    expect(log).to_contain_text("<img src=x onerror='window.hurt=1'> ···2J")
    assert log.locator("img").count() == 0
    assert notebook.page.evaluate("window.hurt") is None
    accessible(notebook)
    notebook.run(3)
    expect(log).to_contain_text("one more")
    search = notebook.panel.get_by_role("searchbox")
    search.fill("MORE")
    expect(log.locator("mark")).to_have_text("more")
    expect(notebook.panel.locator(".lcm-hits")).to_have_text("1 of 1")
    accessible(notebook)
    search.press("Escape")
    expect(log).to_be_hidden()
    expect(button(notebook.panel, "Logs of Model")).to_be_focused()


# --- the kernel goes -----------------------------------------------------------------------------


@pytest.mark.process
def test_the_death_of_the_kernel_shows(open_notebook: Open, accessible: Callable[[Notebook], None]):
    notebook = open_notebook(PANEL, MODEL)
    notebook.run(0)
    notebook.run(1)
    expect(row(notebook, "idle")).to_have_count(1)
    notebook.kernel_process().kill()
    alert = notebook.panel.get_by_role("alert")
    expect(alert).to_contain_text("The kernel was restarted or has exited")
    expect(button(notebook.panel, "Stop Model")).to_have_attribute("aria-disabled", "true")
    notebook.dismiss_dialog()
    accessible(notebook)


@pytest.mark.process
def test_a_kernel_that_hangs_shows(open_notebook: Open):
    notebook = open_notebook(PANEL)
    notebook.run(0)
    status = notebook.panel.get_by_role("status").first
    expect(status).to_have_text("live")
    process = notebook.kernel_process()
    process.suspend()
    try:
        expect(notebook.panel.get_by_role("alert")).to_contain_text("The kernel does not answer.")
    finally:
        process.resume()
    expect(status).to_have_text("live")


@pytest.mark.process
def test_a_reloaded_page_finds_the_panel_live_and_its_buttons_working(
    open_notebook: Open, tmp_path: Path
):
    call = tmp_path / "call"
    cell = MODEL.replace("_cls", f"_cls --volume {tmp_path}:{tmp_path}")
    notebook = open_notebook(PANEL, cell, f"Model().wait.remote({str(call)!r})")
    notebook.run(0)
    notebook.run(1)
    notebook.save()
    notebook.reload()
    expect(row(notebook, "idle")).to_have_count(1)
    expect(notebook.panel.get_by_role("status").first).to_have_text("live")
    notebook.begin(2)
    expect(row(notebook, "busy")).to_have_count(1)
    confirm(notebook, "Stop Model")
    expect(row(notebook, "exited")).to_have_count(1)


@pytest.mark.process
def test_a_notebook_opened_again_says_that_its_panel_is_of_a_session_that_ended(
    open_notebook: Open,
):
    notebook = open_notebook(PANEL)
    notebook.run(0)
    expect(notebook.panel.get_by_role("status").first).to_have_text("live")
    notebook.save()
    notebook.shut_down()
    notebook.reload()
    expect(notebook.page.get_by_text("This was the live panel of a session of")).to_be_visible()
    expect(notebook.page.locator(".lcm-panel")).to_have_count(0)
    assert "lcm-" not in str(notebook.saved()["metadata"].get("widgets", ""))


@pytest.mark.process
def test_widget_state_that_was_saved_shows_no_life(open_notebook: Open, tmp_path: Path):
    """JupyterLab keeps such state on request, VS Code always; the kernel is another one then."""
    call = tmp_path / "call"
    cell = MODEL.replace("_cls", f"_cls --volume {tmp_path}:{tmp_path}")
    notebook = open_notebook(PANEL, cell, f"Model().wait.remote({str(call)!r})")
    notebook.run(0)
    notebook.run(1)
    notebook.begin(2)
    expect(row(notebook, "busy")).to_have_count(1)
    execute(notebook.page, "@jupyter-widgets/jupyterlab-manager:saveWidgetState")
    call.touch()
    notebook.wait(2)
    notebook.save()
    assert notebook.saved()["metadata"].get("widgets"), "no state was saved"
    notebook.shut_down()
    notebook.reload()
    expect(notebook.panel.locator(".lcm-totals")).to_contain_text("was: 1 class")
    expect(notebook.panel.locator(".lcm-chips .lcm-chip").first).to_contain_text("was")
    expect(notebook.panel.get_by_role("status").first).to_have_text("no answer")
    expect(button(notebook.panel, "Stop Model")).to_have_attribute("aria-disabled", "true")


# --- how it looks --------------------------------------------------------------------------------


LONG = "A_class_with_a_name_that_" + "goes_on_and_" * 20 + "ends"


@pytest.mark.process
def test_long_names_stay_inside_at_any_width(open_notebook: Open, accessible: Callable[..., None]):
    notebook = open_notebook(PANEL, MODEL.replace("class Model", f"class {LONG}"), width=420)
    notebook.run(0)
    notebook.run(1)
    expect(row(notebook, "idle")).to_have_count(1)
    expect(row(notebook, "idle").locator("[data-column=Memory]")).to_contain_text("MiB")
    for width in (420, 1280):
        dress(notebook.page, width=width)
        wider = notebook.panel.evaluate(
            """panel => [...panel.querySelectorAll("button, .lcm-chip, .lcm-cell")].filter(part => {
                const box = part.getBoundingClientRect(), whole = panel.getBoundingClientRect();
                return box.width && (box.right > whole.right + 1 || box.left < whole.left - 1);
            }).map(part => part.outerHTML)"""
        )
        assert (width, wider) == (width, [])
        accessible(notebook, width)


LOOKS: list[tuple[str, dict[str, str]]] = [
    ("Light", {}),
    ("Dark", {"color_scheme": "dark"}),
    ("Dark", {"contrast": "more"}),
    ("Dark", {"forced_colors": "active"}),
]


@pytest.mark.process
def test_it_is_legible_in_light_dark_and_high_contrast(
    open_notebook: Open, accessible: Callable[..., None]
):
    notebook = open_notebook(PANEL, MODEL)
    notebook.run(0)
    notebook.run(1)
    expect(row(notebook, "idle")).to_have_count(1)
    button(notebook.panel, "Stop Model").click()
    for theme, contrast in LOOKS:
        dress(notebook.page, theme=f"JupyterLab {theme}", **contrast)
        expect(notebook.panel.get_by_role("alertdialog")).to_be_visible()
        accessible(notebook, (theme, contrast))
