"""What a worker finds of the kernel's machine on each engine: time zone, umask, proxies."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic.lifecycle.states import Notice
from lifecycle_magic.session import session

SECRET = "hunter2"
PROXY = f"http://me:{SECRET}@proxy.example.org:3128"


def clock() -> Any:
    """Local time at two moments, a civil time with its offset, and what a child process says."""

    def local(at: int) -> list[Any]:
        found = time.localtime(at)
        return [list(found), found.tm_zone, found.tm_gmtoff]

    noon = datetime.datetime(2020, 7, 1, 12).astimezone().isoformat()
    child = subprocess.run(["date", "-d", "@0", "+%H"], capture_output=True, text=True, check=True)
    return [local(0), local(1_600_000_000), noon, child.stdout]


class Probe:
    """Says what it finds."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    @lm.build()
    def bake(self) -> None:
        with open("/baked", "w") as file:
            json.dump([time.localtime(0).tm_hour, os.environ.get("https_proxy")], file)

    @lm.method()
    def clock(self) -> Any:
        return clock()

    @lm.method()
    def baked(self) -> Any:
        with open("/baked") as file:
            return json.load(file)

    @lm.method()
    def mode(self) -> int:
        path = os.path.join(tempfile.mkdtemp(), "file")
        with open(path, "w"):
            return stat.S_IMODE(os.stat(path).st_mode)

    @lm.method()
    def environ(self, *names: str) -> Any:
        return [os.environ.get(name) for name in names]


@contextlib.contextmanager
def zone(name: str | None) -> Iterator[None]:
    """Let this process's local time be that of a zone; None is the machine's own."""
    with pytest.MonkeyPatch.context() as patch:
        if name is None:
            patch.delenv("TZ", raising=False)
        else:
            patch.setenv("TZ", name)
        time.tzset()
        yield
    time.tzset()


RULE = "CET-1CEST,M3.5.0,M10.5.0/3"


@pytest.mark.parametrize("name", ["America/New_York", ":Asia/Kolkata", RULE, None])
def test_local_time_is_the_kernels(site_on_each: Site, name: str | None) -> None:
    with zone(name):
        probe = site_on_each.instance(Probe)
        assert probe.clock.remote() == clock()


@pytest.mark.docker
def test_local_time_needs_no_zones_in_the_image(need_docker: docker.DockerClient) -> None:
    image = lm.Image.debian_slim().run_commands("rm -rf /usr/share/zoneinfo /etc/localtime")
    app = lm.App("no-zones", engine="docker")
    with zone("America/New_York"):
        probe = app.cls(Probe, image=image)()
        assert probe.clock.remote() == clock()
        assert probe.environ.remote("TZ") == ["America/New_York"]
        assert probe.baked.remote()[0] == time.localtime(0).tm_hour
        session.close("the test is over")


def test_a_zone_of_the_class_wins(site_on_each: Site) -> None:
    with zone("America/New_York"):
        probe = site_on_each.instance(Probe, env={"TZ": "Asia/Kolkata"})
        with zone("Asia/Kolkata"):
            assert probe.clock.remote() == clock()


def test_modules_are_found_in_the_folders_of_pythonpath(site_on_each: Site) -> None:
    folder = site_on_each.folder.path
    (Path(folder) / "found_by_its_path.py").write_text("VALUE = 'of the volume'")

    class Finder:
        @lm.method()
        def find(self) -> tuple[str, list[int]]:
            import importlib

            found = importlib.import_module("found_by_its_path").VALUE
            return found, [at for at, one in enumerate(sys.path) if one == folder]

    cls = site_on_each.cls(Finder, env={"PYTHONPATH": f"/nowhere:{folder}::{folder}"})
    assert cls().find.remote() == ("of the volume", [2])


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_umask_is_the_kernels(site_on_each: Site, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert site_on_each.instance(Probe).mode.remote() == 0o666 & ~umask
    finally:
        os.umask(before)


def test_proxies_reach_hooks_and_methods(
    site_on_each: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", PROXY)
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("no_proxy", "localhost,.example.org")
    monkeypatch.delenv("http_proxy", raising=False)
    probe = site_on_each.instance(Probe, env={"HTTP_PROXY": "http://other:1"})
    names = ("https_proxy", "HTTP_PROXY", "no_proxy", "http_proxy")
    assert probe.environ.remote(*names) == [
        PROXY,
        "http://other:1",  # the class's own
        "localhost,.example.org",
        None,
    ]


@pytest.mark.docker
def test_a_proxys_password_is_in_no_image_and_no_container(
    need_docker: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", PROXY)
    app = lm.App("proxied", engine="docker")
    probe = app.cls(Plain)()
    assert probe.proxy.remote() == PROXY
    [container] = session.current().containers()
    api = need_docker.api
    told = [api.inspect_container(container.id), api.inspect_image(container.plan.launch.image)]
    told += [api.history(container.plan.launch.image), repr(container.plan)]
    assert SECRET not in json.dumps(told)
    monkeypatch.setenv("https_proxy", "http://another:1")
    assert app.cls(Plain)().proxy.remote() == PROXY  # part of no key: the warm container stays
    session.close("the test is over")


class Plain:
    """A class with a hook, which has a layer of its own."""

    @lm.build()
    def bake(self) -> None:
        os.environ["https_proxy"]  # or the hook fails

    @lm.method()
    def proxy(self) -> str | None:
        return os.environ.get("https_proxy")


@pytest.mark.docker
def test_a_proxy_on_the_loopback_address_is_reported_with_the_fix(
    need_docker: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:{SECRET}@127.0.0.1:3128")
    seen: list[str] = []
    session.current().bus.subscribe(lambda event: seen.append(event.text), [Notice])
    assert lm.App("loopback", engine="docker").cls(Quiet)().hello.remote() == "hello"
    [told] = [text for text in seen if "http_proxy" in text]
    assert "Fix:" in told
    assert "host.docker.internal" in told
    assert SECRET not in told
    session.close("the test is over")


class Quiet:
    @lm.method()
    def hello(self) -> str:
        return "hello"
