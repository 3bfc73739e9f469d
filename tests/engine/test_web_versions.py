"""An application made at the top of a notebook, where the image has the same release or another."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine.work import PATIENCE, Site

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError

CELL = """
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel

web, router = FastAPI(), APIRouter(prefix="/more")

class Item(BaseModel):
    x: int = 1

def twice(x: int) -> int:
    return 2 * x

@web.post("/item")
def item(given: Item, doubled: int = Depends(twice)) -> Item:
    return Item(x=given.x + doubled)

@router.get("/")
def more() -> dict[str, int]:
    return {"more": 1}

web.include_router(router)

class Model:
    @lm.asgi_app()
    def serve(self):
        return web

    @lm.method()
    def version(self):
        return 1
"""
PINS = [f"{one}=={metadata.version(one)}" for one in ("fastapi", "starlette", "pydantic")]


def declare(site: Site, cell: str, image: lm.Image) -> Any:
    """An instance of the cell's class."""
    space: dict[str, Any] = {"__name__": "__main__", "lm": lm}
    exec(compile(cell, "<cell>", "exec", dont_inherit=True), space)
    return site.app.cls(space["Model"], image=image)()


def test_the_same_release_serves_it_also_after_an_edit(site_on_each: Site) -> None:
    image = lm.Image.debian_slim().pip_install(*PINS)
    for version in (1, 2):
        cell = CELL.replace("return 1\n", f"return {version}\n")
        model = declare(site_on_each, cell, image)
        assert model.version.remote() == version
        url = model.serve.web_url.rstrip("/")
        with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
            assert client.post(f"{url}/item?x=2", json={"x": 3}).json() == {"x": 7}
            assert client.get(f"{url}/more/").json() == {"more": 1}


def test_another_release_is_an_error_at_the_start_that_names_both(site_on_each: Site) -> None:
    image = lm.Image.debian_slim().pip_install("fastapi==0.110.*")
    model = declare(site_on_each, CELL, image)
    with pytest.raises(InvalidError) as raised:
        model.version.remote()
    told = str(raised.value)
    assert told.startswith("web was made in the kernel with fastapi ")
    assert f"fastapi {metadata.version('fastapi')}" in told
    assert "the image has fastapi 0.110." in told
    assert f'.pip_install("fastapi=={metadata.version("fastapi")}", ' in told


SCRIPT = """
import fastapi
import httpx
import jinja2
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel

import lifecycle_magic as modal

image = modal.Image.debian_slim().pip_install("fastapi==0.110.*", "jinja2==3.0.*")
app = modal.App("web", image=image)
web, router = FastAPI(title="made again"), APIRouter(prefix="/more")
pages = jinja2.Environment()

class Item(BaseModel):
    x: int = 1

def twice(x: int) -> int:
    return 2 * x

@web.get("/")
def facts(request: Request):
    return [fastapi.__version__, request.app.title, jinja2.__version__]

@web.post("/item")
def item(given: Item, doubled: int = Depends(twice)) -> Item:
    return Item(x=given.x + doubled + square.remote(2))

@router.get("/")
def more():
    return pages.from_string("{{ x }}").render(x=VALUE)

web.include_router(router)

@app.function()
def square(x):
    return x * x

@app.function()
@modal.asgi_app()
def serve():
    return web

@app.local_entrypoint()
def main():
    with httpx.Client(base_url=serve.get_web_url(), timeout=120, trust_env=False) as client:
        print(client.get("/").json())
        print(client.post("/item?x=2", json={"x": 3}).json(), client.get("/more/").json())
"""


@pytest.mark.parametrize("engine", ["docker", "process"])
def test_a_script_makes_its_objects_again_for_another_release(
    tmp_path: Path, request: pytest.FixtureRequest, engine: str
) -> None:
    request.getfixturevalue(f"need_{'docker' if engine == 'docker' else 'bwrap'}")
    script = tmp_path / "site.py"
    env = {**os.environ, "LIFECYCLE_MAGIC_ENGINE": engine}
    for value in ("'a'", "'b'"):
        script.write_text(SCRIPT.replace("VALUE", value))
        command = [str(Path(sys.executable).with_name("lifecycle-magic")), "run", str(script)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=5 * PATIENCE
        )
        assert done.returncode == 0, done.stderr
        facts, answers = done.stdout.splitlines()
        assert facts.startswith("['0.110."), facts
        assert "'made again', '3.0." in facts, facts
        assert answers == f"{{'x': 11}} {value[1]}"


def test_an_image_without_the_library_raises_too(site: Site) -> None:
    model = declare(site, CELL, lm.Image.debian_slim())
    with pytest.raises(InvalidError, match="the image has no fastapi, no starlette"):
        model.version.remote()
