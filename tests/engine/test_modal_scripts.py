"""Scripts as Modal's users publish them, run as they stand with ``lifecycle-magic run``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP_LEVEL_OBJECTS = """
import dataclasses, enum, itertools, logging, os, re, sqlite3, threading
from pathlib import Path

import lifecycle_magic as modal
from lm_helpers15.tools import CONFIG, double

image = modal.Image.debian_slim().env({"KIND": "small"})
app = modal.App("objects", image=image)
logger = logging.getLogger(__name__)
lock, counter = threading.Lock(), itertools.count()
memory = sqlite3.connect(":memory:", check_same_thread=False)
memory.execute("create table seen (x)")
PATTERN = re.compile("[0-9]+")
TOKEN = os.environ.get("LM_OBJECTS_TOKEN", "none")
OUT = Path("out-here") if modal.is_local() else Path("/tmp/out-there")
OUT.mkdir(exist_ok=True)
try:
    import lm_no_such_module
except ImportError:
    lm_no_such_module = None

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Request:
    text: str
    color: Color = Color.RED

@app.function(secrets=[modal.Secret.from_dict({"LM_OBJECTS_TOKEN": "sesame99"})])
def go(request: Request):
    with lock:
        memory.execute("insert into seen values (?)", (request.text,))
        seen = memory.execute("select count(*) from seen").fetchone()[0]
    (OUT / "a").write_text("1")
    found = PATTERN.findall(request.text)
    return found, request.color is Color.RED, TOKEN, str(OUT), seen, CONFIG["where"], double(2)

@app.local_entrypoint()
def main():
    print(*go.remote(Request("a1b22")), sep="|")
    print(go.local(Request("c"))[2:6], OUT.exists())
"""

HELPERS = """
import lifecycle_magic as modal

CONFIG = {"where": "here" if modal.is_local() else "there"}

def double(x):
    return 2 * x
"""

SETTINGS = """
import lifecycle_magic as modal

ROOT = "here" if modal.is_local() else "there"

def where():
    return "h" if modal.is_local() else "t"

class Settings:
    def __init__(self):
        self.is_there = not modal.is_local()
"""

READS_SETTINGS = """
import lifecycle_magic as modal
import lm_settings16 as settings
from lm_settings16 import ROOT

app = modal.App("settings")
DATA = settings.ROOT + "/data"
PLACE = settings.where()
SETTINGS = settings.Settings()

@app.function()
def go():
    return ROOT, DATA, PLACE, SETTINGS.is_there

@app.local_entrypoint()
def main():
    print(*go.local(), *go.remote())
"""

JOBS = """
import lifecycle_magic as modal

app = modal.App("jobs")

def links(url):
    number = int(url)
    return [str(2 * number), str(2 * number + 1)] if number < 8 else []

@app.function(max_containers=2)
def consume(queue: modal.Queue, visited: modal.Dict, most: int):
    while visited.len() < most:
        try:
            url = queue.get(timeout=1)
        except Exception:
            return
        if url not in visited:
            visited[url] = True
            queue.put_many(links(url))

@app.cls()
class Model:
    @modal.batched(max_batch_size=4, wait_ms=100)
    def transcribe(self, samples: list[int], languages: list[str]):
        return [f"{sample}{language}" for sample, language in zip(samples, languages)]

@app.function()
async def transcribe_all(batch: list[int]):
    async for text in Model().transcribe.starmap.aio([(one, "en") for one in batch]):
        yield text

@app.local_entrypoint()
async def main(most: int = 10):
    with modal.Queue.ephemeral() as queue, modal.Dict.ephemeral() as visited:
        queue.put("1")
        calls = [consume.spawn(queue, visited, most) for _ in range(2)]
        modal.FunctionCall.gather(*calls)
        print(visited.len() >= most)
    print([text async for text in transcribe_all.remote_gen.aio(list(range(5)))])
"""


def run(script: Path, engine: str) -> list[str]:
    """What a script prints."""
    command = [str(Path(sys.executable).with_name("lifecycle-magic")), "run", script.name]
    env = {**os.environ, "LIFECYCLE_MAGIC_ENGINE": engine}
    done = subprocess.run(
        command, cwd=script.parent, capture_output=True, text=True, env=env, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(params=["docker", "process"])
def engine(request: pytest.FixtureRequest) -> str:
    request.getfixturevalue("need_docker" if request.param == "docker" else "need_bwrap")
    return str(request.param)


def test_objects_at_the_top_of_a_script_are_those_of_each_place(
    tmp_path: Path, engine: str
) -> None:
    helpers = tmp_path / "lm_helpers15"
    helpers.mkdir()
    (helpers / "__init__.py").touch()
    (helpers / "tools.py").write_text(HELPERS)
    script = tmp_path / "objects.py"
    script.write_text(TOP_LEVEL_OBJECTS)
    assert run(script, engine) == [
        "['1', '22']|True|sesame99|/tmp/out-there|1|there|4",
        "('none', 'out-here', 1, 'here') True",
    ]


def test_what_asks_in_a_module_next_to_the_script_is_that_of_each_place(
    tmp_path: Path, engine: str
) -> None:
    (tmp_path / "lm_settings16.py").write_text(SETTINGS)
    script = tmp_path / "reads.py"
    script.write_text(READS_SETTINGS)
    assert run(script, engine) == ["here here/data h False there there/data t True"]


def test_a_crawler_with_a_queue_and_a_dict_and_a_batched_model(tmp_path: Path, engine: str) -> None:
    script = tmp_path / "jobs.py"
    script.write_text(JOBS)
    assert run(script, engine) == ["True", "['0en', '1en', '2en', '3en', '4en']"]
