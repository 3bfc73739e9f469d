"""An application made at the top of a notebook, where the image has the same release or another."""

from __future__ import annotations

from importlib import metadata
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


def test_an_image_without_the_library_raises_too(site: Site) -> None:
    model = declare(site, CELL, lm.Image.debian_slim())
    with pytest.raises(InvalidError, match="the image has no fastapi, no starlette"):
        model.version.remote()
