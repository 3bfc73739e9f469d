"""Steps after functions of an image, and steps that see secrets and volumes, on both engines."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import docker_images
from engine.recipes import Site, open_site

import lifecycle_magic as lm
from lifecycle_magic.exception import BuildError
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.session import session


@pytest.fixture
def each(request: pytest.FixtureRequest, engine_name: str) -> Iterator[Site]:
    for site in open_site(request.node.name, engine_name):
        yield site
        if engine_name == "docker":
            client = request.getfixturevalue("need_docker")
            used = {one.plan.launch.image for one in _containers()}
            site.app.stop()
            for one in used:
                docker_images.remove(client, one)
            docker_images.remove_made_by(client, [site.mark])


def _containers() -> list[Any]:
    services = session.current().services.values()
    return [one for service in services for one in service.containers()]


def files_of(root: Path) -> Iterator[Path]:
    """Yield the files of a folder whose entries come and go, which ``Path.rglob`` can't bear."""
    for folder, _, names in os.walk(root):
        yield from (path for name in names if (path := Path(folder, name)).is_file())


CELL = """
import os
from pathlib import Path
WORD = "one"
def first(word):
    Path("first").write_text(word + os.environ["BEFORE"])
def second():
    Path("second").write_text(Path("between").read_text() + os.environ["AFTER"])
image = (
    lm.Image.debian_slim()
    .env({"BEFORE": MARK}).workdir("/root/w")
    .run_function(first, args=("1",))
    .run_commands("cat first > between; echo -n :$BEFORE >> between")
    .env({"AFTER": "2"})
    .run_function(second)
    .pip_install("six")
    .run_commands("cat second > last && python -c 'import six'")
)
class Model:
    @lm.build()
    def bake(self): Path("baked").write_text(Path("last").read_text() + "!")
    @lm.method()
    def get(self):
        import six
        return Path("baked").read_text(), os.environ["AFTER"], os.getcwd().rpartition("/")[2]
"""


def got(site: Site, cell: str) -> tuple[Any, list[str]]:
    """What the class answers, and the steps that were built for it."""
    space: dict[str, Any] = {"__name__": "__main__", "lm": lm, "MARK": site.mark}
    exec(cell, space)
    site.events.clear()
    answer = site.app.cls(image=space["image"])(space["Model"])().get.remote()
    done = [text.partition(" ")[0] for status, text in site.steps() if status == "done"]
    return answer, [text for text in done if text != "environment"]


def test_steps_follow_functions_and_an_edit_runs_no_function_below_it(each: Site) -> None:
    mark = each.mark
    answer = (f"1{mark}:{mark}2!", "2", "w")
    built, ran = got(each, CELL)
    assert built == answer
    assert [text for text in ran if text.endswith("()")] == ["first()", "second()", "bake()"]
    assert got(each, CELL) == (answer, [])

    built, ran = got(each, CELL.replace("cat second > last", "(cat second; echo -n .) > last"))
    assert built == (f"1{mark}:{mark}2.!", "2", "w")
    assert [text for text in ran if text.endswith("()")] == ["bake()"]

    built, ran = got(each, CELL.replace('"AFTER": "2"', '"AFTER": "3"'))
    assert built == (f"1{mark}:{mark}3!", "3", "w")
    assert [text for text in ran if text.endswith("()")] == ["second()", "bake()"]


def test_a_step_after_a_function_that_fails_is_named(each: Site) -> None:
    cell = CELL.replace("cat second > last", "cat third > last")
    with pytest.raises(BuildError, match=r"(?s)cat third > last.*\(?exit code 1"):
        got(each, cell)


def test_progress_counts_steps_and_functions_in_one_row(each: Site) -> None:
    got(each, CELL)
    steps = [event for event in each.events if hasattr(event, "of")]
    numbers = [event.step for event in steps if event.status in ("done", "cached")]
    assert numbers == sorted(set(numbers))
    assert {event.of for event in steps} == {numbers[-1]}


# --- secrets and volumes of steps ----------------------------------------------------------------

READ = """
from pathlib import Path
class Model:
    @lm.method()
    def get(self): return Path("/root/w/found").read_text()
"""


def seen(site: Site, image: lm.Image) -> tuple[str, list[str]]:
    """What the steps of ``image`` wrote to their file, and which of them ran."""
    site.events.clear()
    answer = site.cls(READ, image=image)().get.remote()
    return answer, [text for status, text in site.steps() if status == "done"]


def test_a_commands_secret_is_there_for_it_alone_and_nowhere_after(
    each: Site, engine_name: str, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    value, renewed = secrets.token_hex(16), secrets.token_hex(20)
    write = f'echo "{each.mark} $TOKEN"; echo -n "${{#TOKEN}} $MODE" > found'

    def image(given: dict[str, str]) -> lm.Image:
        start = lm.Image.debian_slim().env({"OF": each.mark}).workdir("/root/w")
        given_to = [lm.Secret.from_dict(given)]
        made = start.run_commands(write, env={"MODE": "fast"}, secrets=given_to)
        return made.run_commands('echo -n " ${TOKEN-none}" >> found')

    assert seen(each, image({"TOKEN": value}))[0] == "32 fast none"
    printed = "".join(text for status, text in each.steps() if status == "output")
    assert f"{each.mark} ***" in printed
    logs = "".join(path.read_text() for path in files_of(state_root()) if path.suffix == ".log")
    assert value not in printed + logs + str(each.events) + "".join(capfd.readouterr())
    if engine_name == "docker":
        client = request.getfixturevalue("need_docker")
        (container,) = _containers()
        made = client.images.get(container.plan.launch.image)
        saved = b"".join(made.save())
        assert b"32 fast none" in saved
        assert value.encode() not in saved
        running = client.api.inspect_container(container.id)
        assert value not in str(made.attrs) + str(made.history()) + str(running)
        assert "TOKEN=" not in str(made.attrs)
    else:
        kept = [path for path in files_of(state_root()) if value.encode() in path.read_bytes()]
        assert not kept

    assert seen(each, image({"TOKEN": renewed})) == ("32 fast none", [])
    assert seen(each, image({"TOKEN": renewed, "OTHER": "1"}))[0] == "40 fast none"


LEAVES = """
import os
from pathlib import Path
def leave():
    Path("~/here").expanduser().write_text("x" * 2_000_000 + os.environ["TOKEN"])
    if CLEANS:
        Path("~/here").expanduser().unlink()
class Model:
    HOOK
    @lm.method()
    def get(self): return Path("~/here").expanduser().exists()
"""


@pytest.mark.parametrize("cleans", [False, True], ids=["leaves", "cleans"])
@pytest.mark.parametrize("kind", ["def", "async def", "run_function"])
def test_code_that_leaves_a_secrets_value_in_a_file_fails(
    each: Site, kind: str, cleans: bool
) -> None:
    value = secrets.token_hex(16)
    given = [lm.Secret.from_dict({"TOKEN": value})]
    image = lm.Image.debian_slim().env({"OF": each.mark})
    if kind == "run_function":
        space = {"__name__": "__main__", "lm": lm, "CLEANS": cleans}
        exec(LEAVES.replace("HOOK", ""), space)
        image = image.run_function(space["leave"], secrets=given)
        model = each.cls(LEAVES.replace("HOOK", ""), image=image)
    else:
        hook = f"@lm.build()\n    {kind} leave(self): leave()"
        model = each.cls(LEAVES.replace("HOOK", hook), CLEANS=cleans, image=image, secrets=given)
    if cleans:
        assert not model().get.remote()
        return
    with pytest.raises(BuildError) as caught:
        model().get.remote()
    told = "leave(): it wrote the value of the secret TOKEN to /root/here, which would stay"
    assert told in str(caught.value)
    assert value not in str(caught.value)


def test_a_step_that_writes_a_secrets_value_fails_and_keeps_nothing(each: Site) -> None:
    value = secrets.token_hex(16)
    start = lm.Image.debian_slim().env({"OF": each.mark})
    image = start.run_commands(
        "mkdir -p /root/w; echo $TOKEN > /root/w/found",
        secrets=[lm.Secret.from_dict({"TOKEN": value})],
    )
    with pytest.raises(BuildError, match=r"secret TOKEN to .*/root/w/found, which") as caught:
        seen(each, image)
    assert value not in str(caught.value)


def test_a_commands_volume_is_there_for_it_alone(
    each: Site, need_mounts: None, tmp_path: Path
) -> None:
    (tmp_path / "given").write_text("given")
    image = (
        lm.Image.debian_slim()
        .env({"OF": each.mark})
        .workdir("/root/w")
        .run_commands(
            "cat /shared/given > found; touch /shared/made /own/x",
            volumes={"/shared": lm.Volume.from_path(tmp_path), "/own": lm.Volume.ephemeral()},
        )
        .run_commands("ls /shared /own >> found")
    )
    assert seen(each, image)[0] == "given/own:\n\n/shared:\n"
    assert (tmp_path / "made").exists()
