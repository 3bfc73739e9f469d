"""The live panel as its users meet it: in JupyterLab, with containers that really run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browser.lab import Notebook
from playwright.sync_api import Locator, expect

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


def button(part: Locator, name: str) -> Locator:
    return part.get_by_role("button", name=name, exact=True)


def row(notebook: Notebook, state: str) -> Locator:
    """The containers in that state."""
    return notebook.panel.locator(f".lcm-container[data-state={state}]")


def confirm(notebook: Notebook, name: str) -> str:
    """Press a button that destroys, and the one that means it; what it said would be lost."""
    button(notebook.panel, name).click()
    question = notebook.panel.locator(".lcm-ask:visible")
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
def accessible(need_js: Path) -> Callable[[Notebook], None]:
    """Checks the panel as it stands against axe-core's rules."""
    axe = (need_js / "node_modules" / "axe-core" / "axe.min.js").read_text()

    def check(notebook: Notebook) -> None:
        notebook.panel.scroll_into_view_if_needed()
        assert notebook.page.evaluate(AXE, axe) == []

    return check


# --- beginning -----------------------------------------------------------------------------------


def test_an_empty_session_explains_how_to_begin(open_notebook: Open, accessible):
    notebook = open_notebook(PANEL)
    notebook.run(0)
    expect(notebook.panel).to_contain_text("Nothing runs in this session yet.")
    expect(notebook.panel.locator("pre")).to_contain_text("%%lifecycle_cls")
    expect(notebook.panel.get_by_role("status").first).to_have_text("live")
    expect(notebook.page.get_by_text("This was the live panel")).to_be_hidden()
    accessible(notebook)


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
    enter, call = tmp_path / "enter", tmp_path / "call"
    cell = MODEL.replace("_cls", f"_cls --engine {engine} --volume {tmp_path}:{tmp_path}").replace(
        'print("loading weights")', f"self.wait({str(enter)!r})"
    )
    notebook = open_notebook(PANEL, cell, f"Model().wait.remote({str(call)!r})")
    notebook.run(0)

    notebook.begin(1)
    expect(row(notebook, "entering")).to_have_count(1)
    enter.touch()
    expect(row(notebook, "idle")).to_have_count(1)
    notebook.wait(1)

    notebook.begin(2)
    expect(row(notebook, "busy")).to_have_count(1)
    expect(row(notebook, "busy").locator("[data-column=Memory]")).to_contain_text("MiB")
    accessible(notebook)
    told = confirm(notebook, "Stop Model")
    assert "What load() made is lost. 1 running call ends first, then close() runs." in told
    expect(row(notebook, "draining")).to_contain_text("stopped in the panel")
    assert notebook.is_running(2), "the button waited for the cell"
    accessible(notebook)

    call.touch()
    notebook.wait(2)
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
    assert "New containers come up first." in confirm(notebook, "Restart Model")
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
    expect(alert).to_contain_text("The kernel was restarted or has ended")
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
    expect(row(notebook, "draining")).to_have_count(1)
    assert notebook.is_running(2)
    call.touch()
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


# --- how it looks --------------------------------------------------------------------------------


LONG = "A_class_with_a_name_that_" + "goes_on_and_" * 20 + "ends"


@pytest.mark.process
@pytest.mark.parametrize("width", [420, 1280])
def test_long_names_stay_inside_at_any_width(
    width: int, open_notebook: Open, accessible: Callable[[Notebook], None]
):
    notebook = open_notebook(
        PANEL,
        MODEL.replace("class Model", f"class {LONG}"),
        width=width,
    )
    notebook.run(0)
    notebook.run(1)
    expect(row(notebook, "idle")).to_have_count(1)
    expect(row(notebook, "idle").locator("[data-column=Memory]")).to_contain_text("MiB")
    wider = notebook.panel.evaluate(
        """panel => [...panel.querySelectorAll("button, .lcm-chip, .lcm-cell")].filter(part => {
            const box = part.getBoundingClientRect(), whole = panel.getBoundingClientRect();
            return box.width && (box.right > whole.right + 1 || box.left < whole.left - 1);
        }).map(part => part.outerHTML)"""
    )
    assert wider == []
    accessible(notebook)


@pytest.mark.process
@pytest.mark.parametrize(
    "contrast", [{"color_scheme": "dark"}, {"contrast": "more"}, {"forced_colors": "active"}]
)
def test_it_is_legible_in_dark_and_in_high_contrast(
    contrast: dict[str, str], open_notebook: Open, accessible: Callable[[Notebook], None]
):
    notebook = open_notebook(PANEL, MODEL, theme="JupyterLab Dark", **contrast)
    notebook.run(0)
    notebook.run(1)
    expect(row(notebook, "idle")).to_have_count(1)
    button(notebook.panel, "Stop Model").click()
    accessible(notebook)
