"""What a method displays arrives as data by type, in its order with what is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.pool import printing, rich_output

pytest.importorskip("IPython")


class Displays:
    @lm.method()
    def mixed(self) -> None:
        from IPython.display import HTML, display

        print("before")
        display(HTML("<b>bold</b>"), "text")
        print("no end", end="")
        display(1)
        print("after", file=sys.stderr)

    @lm.method()
    def updates(self) -> None:
        from IPython.display import clear_output, display, update_display

        handle = display("start", display_id=True)
        handle.update("handle")
        update_display("function", display_id=handle.display_id)
        clear_output(wait=True)

    @lm.method()
    def own(self) -> None:
        from unittest import mock

        from IPython.display import display

        class Own:
            def _ipython_display_(self) -> None:
                display({"text/markdown": "*own*"}, raw=True)

        class Broken:
            def __repr__(self) -> str:
                return "Broken()"

            def _repr_html_(self) -> str:
                raise LookupError("no page")

            def _repr_png_(self) -> bytes:
                return b"png"

        display(Own(), Broken(), Broken, mock.Mock(name="mock"))

    @lm.method()
    def refused(self) -> None:
        from IPython.display import display

        class Slider:
            def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
                kind = "application/vnd.jupyter.widget-view+json"
                return {"text/plain": "Slider()", kind: {"model_id": "1"}}

        display(Slider())

    @lm.method()
    def plots(self) -> list[int]:
        import matplotlib.pyplot as plt

        plt.plot([1, 2])
        plt.figure()
        plt.show()
        return plt.get_fignums()

    @lm.method()
    def counts(self, until: int = 3) -> str:
        from tqdm.auto import tqdm as automatic
        from tqdm.notebook import tqdm, trange

        for number in trange(3, desc="<one>"):
            if number == until:
                break
        bar = automatic(total=None, unit="B")
        bar.update(5)
        bar.write("written")
        bar.close()
        for _ in tqdm([1], leave=False):
            pass
        return tqdm.__module__

    @lm.method()
    def automatic_bar(self) -> list[str]:
        from tqdm.auto import tqdm

        return [one.__qualname__ for one in tqdm.__mro__]

    @lm.method()
    def leaves_open(self, fails: bool = False) -> object:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots()
        axes.plot([1, 2])
        print("drawn")
        if fails:
            raise LookupError("after it was drawn")
        return figure

    @lm.method()
    def can_not_be_drawn(self) -> str:
        import matplotlib.pyplot as plt

        plt.figure().savefig = None
        return "value"

    @lm.method()
    def open_figures(self) -> list[int]:
        import matplotlib.pyplot as plt

        return plt.get_fignums()

    @lm.method()
    def forked(self) -> None:
        import os

        from IPython.display import display

        if (pid := os.fork()) == 0:
            display("of a child")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)

    @lm.method()
    def items(self) -> Iterator[int]:
        from IPython.display import display

        for number in range(3):
            display(number)
            yield number


@pytest.fixture(scope="module")
def work() -> Iterator[Forked]:
    engine = ForkEngine()
    with Forked(engine, Displays) as made:
        yield made
    engine.close()


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that gets printed strings, and the data of what is displayed."""
    found: list[Any] = []

    class Stream:
        def write(self, text: str) -> None:
            found.append(text)

        def flush(self) -> None:
            """Do nothing."""

    def show(text: str) -> None:
        message = json.loads(text)
        found.append(message.get("data", message["do"]))

    monkeypatch.setattr(sys, "stdout", Stream())
    monkeypatch.setattr(sys, "stderr", Stream())
    monkeypatch.setattr(rich_output, "show", show)
    return found


def test_it_keeps_its_order_with_what_is_printed(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = recorded(monkeypatch)
    work.mixed.remote()
    html = {"text/html": "<b>bold</b>", "text/plain": "<IPython.core.display.HTML object>"}
    text, number = {"text/plain": "'text'"}, {"text/plain": "1"}
    assert shown == ["before\n", html, text, "no end", number, "after\n"]


def test_a_display_is_updated_and_cleared(work: Forked, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[dict[str, Any]] = []
    monkeypatch.setattr(rich_output, "show", lambda text: messages.append(json.loads(text)))
    work.updates.remote()
    assert [one["do"] for one in messages] == ["display", "update", "update", "clear"]
    assert len({one["id"] for one in messages[:3]}) == 1
    assert messages[-1]["wait"] is True


def test_objects_describe_themselves_as_in_ipython(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = recorded(monkeypatch)
    work.own.remote()
    displayed = [one for one in shown if isinstance(one, dict)]
    assert displayed[0] == {"text/markdown": "*own*"}
    assert displayed[1] == {"text/plain": "Broken()", "image/png": "cG5n"}
    assert [list(one) for one in displayed[2:]] == [["text/plain"]] * 2
    assert any("LookupError: no page" in one for one in shown if isinstance(one, str))


def test_a_widget_is_refused_with_the_fix(work: Forked) -> None:
    with pytest.raises(TypeError, match=r"Slider\(\) is a widget .* Fix: create the widget"):
        work.refused.remote()


def test_pyplot_shows_its_figures_and_closes_them(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    shown = recorded(monkeypatch)
    assert work.plots.remote() == []
    assert [one["image/png"][:8] for one in shown] == ["iVBORw0K"] * 2


@pytest.fixture(scope="module")
def notebook_work() -> Iterator[Forked]:
    engine = ForkEngine()
    with Forked(engine, Displays) as made:
        made.in_notebook = True
        yield made
    engine.close()


def test_a_notebook_shows_the_figures_that_a_call_leaves_open_at_its_end(
    notebook_work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    shown = recorded(monkeypatch)
    notebook_work.leaves_open.remote()
    assert shown[0] == "drawn\n"
    assert [one["image/png"][:8] for one in shown[1:]] == ["iVBORw0K"]
    assert notebook_work.open_figures.remote() == pyplot.get_fignums() == []
    with pytest.raises(LookupError, match="after it was drawn"):
        notebook_work.leaves_open.remote(fails=True)
    assert len(shown) == 4
    assert notebook_work.open_figures.remote() == []
    assert notebook_work.can_not_be_drawn.remote() == "value"
    assert "TypeError: 'NoneType' object is not callable" in "".join(shown[4:])


def test_bars_of_tqdm_for_notebooks_are_displays_that_are_updated(
    notebook_work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tqdm")
    shown: dict[str, Any] = {}
    recorded(monkeypatch)
    monkeypatch.setattr(rich_output, "show", lambda text: shown.update(_by_id(text)))
    assert notebook_work.counts.remote() == "tqdm.notebook"
    assert "tqdm_notebook" in notebook_work.automatic_bar.remote()
    counted, unknown, left = shown.values()
    assert counted["text/plain"].startswith("<one>: 100%|██████████| 3/3 [")
    assert "&lt;one&gt;: 100%" in counted["text/html"]
    assert "width: 100.0%" in counted["text/html"]
    assert " 5/? [" in unknown["text/html"]
    assert left == {"text/html": "", "text/plain": ""}
    shown.clear()
    notebook_work.counts.remote(1)
    assert "jp-error-color1" in next(iter(shown.values()))["text/html"]


def _by_id(text: str) -> dict[str, Any]:
    message = json.loads(text)
    return {message["id"]: message["data"]}


def test_a_script_has_the_bars_of_a_script(work: Forked) -> None:
    pytest.importorskip("tqdm")
    assert "tqdm_notebook" not in work.automatic_bar.remote()


def test_a_script_keeps_open_what_a_call_leaves_open(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    shown = recorded(monkeypatch)
    work.leaves_open.remote()
    pyplot.close("all")  # the returned one
    assert shown == ["drawn\n"]
    assert work.open_figures.remote() == [1]


def test_a_forked_child_prints_it(work: Forked, capfd: pytest.CaptureFixture[str]) -> None:
    work.forked.remote()
    assert "'of a child'" in capfd.readouterr().out


def test_it_comes_before_the_item_that_follows_it(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = recorded(monkeypatch)
    for number in work.items.remote_gen():
        assert {"text/plain": str(number)} in shown


@pytest.mark.parametrize(
    "text",
    ["", "1", '{"do": "display", "data": 1}', "{", "[" * 200_000],
    ids=["empty", "number", "data", "open", "deep"],
)
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|no JSON object|too deep"):
        rich_output.show(text)


def test_a_call_goes_on_after_what_can_not_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    printing.show("display", "{")
    printing.show("stdout", "after\n")
    assert capsys.readouterr().out == "after\n"


def test_a_script_prints_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    message = {"do": "display", "data": {"text/plain": "text"}, "metadata": {}, "id": None}
    rich_output.show(json.dumps(message))
    rich_output.show('{"do": "clear", "wait": false}')
    assert capsys.readouterr().out == "text\n"
