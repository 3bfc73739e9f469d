"""Packages are found where the user's pip finds them: in every index of its configuration."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import http.server
import json
import secrets
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
from engine import bridge
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic.engines.base import StepOutput
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.exception import BuildError
from lifecycle_magic.host.paths import state_root


def wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel of one module with ``VERSION``, into a simple index in ``folder``."""
    place = folder / "simple" / name
    place.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    with zipfile.ZipFile(place / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            lines.append(f"{path},sha256={digest.decode().rstrip('=')},{len(text)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]) + "\n")
    links = (f'<a href="{one.name}">{one.name}</a>' for one in place.glob("*.whl"))
    (place / "index.html").write_text("<!DOCTYPE html>" + "".join(links))


@contextlib.contextmanager
def serving(folder: Path, login: str = "", address: str = "127.0.0.1") -> Iterator[str]:
    """Serve a folder, to clients that know ``login`` if there is one; yields the URL."""
    wanted = f"Basic {base64.b64encode(login.encode()).decode()}"

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if login and self.headers["Authorization"] != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.end_headers()
                return
            super().do_GET()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer((address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://{address}:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Two indexes: both have ``lmboth``, the newer one in the second, which alone has ``lmsecond``.

    They are the whole of pip's configuration.
    """
    first, second = tmp_path / "first", tmp_path / "second"
    wheel(first, "lmboth", "1.0")
    wheel(second, "lmboth", "2.0")
    wheel(second, "lmsecond", "1.0")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with serving(first) as one, serving(second) as two:
        (tmp_path / "pip.conf").write_text(
            f"[global]\nindex-url = {one}/simple\nextra-index-url = {two}/simple\n"
        )
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        yield one, two


class Versions:
    """Says which versions it has."""

    def __init__(self, path: str) -> None:
        self.path = path

    @lm.method()
    def of(self, *names: str) -> list[str]:
        import importlib

        return [importlib.import_module(name).VERSION for name in names]


def installed(site: Site, *packages: str, names: tuple[str, ...] = ("lmboth",)) -> list[str]:
    image = lm.Image.debian_slim().env({"NOT_OF": secrets.token_hex(8)}).pip_install(*packages)
    found: list[str] = site.instance(Versions, image=image).of.remote(*names)
    return found


@pytest.mark.process
def test_the_best_of_all_indexes_is_installed(site: Site, indexes: tuple[str, str]) -> None:
    found = installed(site, "lmboth", "lmsecond", names=("lmboth", "lmsecond"))
    assert found == ["2.0", "1.0"]


@pytest.mark.process
def test_a_version_that_only_the_second_index_has_is_found(
    site: Site, indexes: tuple[str, str]
) -> None:
    assert installed(site, "lmboth>=2") == ["2.0"]


@pytest.mark.process
def test_a_version_that_only_the_second_index_has_is_found_by_uv_too(
    site: Site, indexes: tuple[str, str]
) -> None:
    image = lm.Image.debian_slim().uv_pip_install("lmboth==2.0", force_build=True)
    assert site.instance(Versions, image=image).of.remote("lmboth") == ["2.0"]


@pytest.mark.process
def test_a_constraint_holds(
    site: Site, indexes: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constraints.txt").write_text("lmboth<2\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    assert installed(site, "lmboth") == ["1.0"]


@pytest.mark.process
def test_find_links_without_an_index(
    site: Site, indexes: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "first" / "simple" / "lmboth"))
    assert installed(site, "lmboth") == ["1.0"]


@pytest.mark.process
def test_an_index_of_the_step_goes_before_that_of_the_configuration(
    site: Site, indexes: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel(tmp_path / "third", "lmboth", "3.0")
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {indexes[0]}/simple\n")
    with serving(tmp_path / "third") as url:
        image = lm.Image.debian_slim().pip_install("lmboth<3", index_url=f"{indexes[1]}/simple")
        assert site.instance(Versions, image=image).of.remote("lmboth") == ["2.0"]
        more = lm.Image.debian_slim().pip_install("lmboth", extra_index_url=f"{url}/simple")
        assert site.instance(Versions, image=more).of.remote("lmboth") == ["3.0"]


@pytest.mark.process
def test_credentials_of_an_index_are_used_and_never_shown(
    site: Site, tmp_path: Path, indexes: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "private", "lmprivate", "1.0")
    with serving(tmp_path / "private", login="me:hunter2") as url:
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{url}/simple")
        assert installed(site, "lmprivate", names=("lmprivate",)) == ["1.0"]
        monkeypatch.setenv("NETRC", str(tmp_path / "none"))
        secret = f"{url}/simple".replace("://", "://me:hunter2@")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", secret)
        assert installed(site, "lmprivate>0", names=("lmprivate",)) == ["1.0"]
        with pytest.raises(BuildError) as caught:
            installed(site, "lmprivate>1")
        assert "hunter2" not in str(caught.value)


@pytest.mark.process
def test_an_index_comes_from_a_steps_secret(
    site: Site, tmp_path: Path, indexes: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(tmp_path / "private", "lmsecret", "1.0")
    with serving(tmp_path / "private", login="me:hunter2hunter2") as url:
        login = f"{url}/simple".replace("://", "://me:hunter2hunter2@")
        for tool, name in (("pip_install", "PIP_EXTRA_INDEX_URL"), ("uv_pip_install", "UV_INDEX")):
            start = lm.Image.debian_slim().env({"NOT_OF": secrets.token_hex(8)})
            given = [lm.Secret.from_dict({name: login})]
            image = getattr(start, tool)("lmsecret", secrets=given)
            assert site.instance(Versions, image=image).of.remote("lmsecret") == ["1.0"]
        image = start.pip_install("lmsecret>1", secrets=given)
        with pytest.raises(BuildError) as caught:
            site.instance(Versions, image=image).of.remote("lmsecret")
        assert "hunter2" not in str(caught.value) + capsys.readouterr().out


@pytest.mark.process
def test_what_uv_can_not_install_pip_does(
    site: Site, indexes: tuple[str, str], tmp_path: Path
) -> None:
    # pip takes an option that uv does not know.
    image = lm.Image.debian_slim().pip_install("lmboth", extra_options="--prefer-binary")
    assert site.instance(Versions, image=image).of.remote("lmboth") == ["2.0"]


@pytest.mark.docker
def test_an_image_gets_its_packages_from_every_index_of_this_machines_pip(
    need_docker: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unique = f"lm{secrets.token_hex(4)}"
    wheel(tmp_path / "first", unique, "1.0")
    wheel(tmp_path / "second", unique, "2.0")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("https_proxy", "http://me:hunter3@127.0.0.1:1")
    address = bridge.address()
    with (
        serving(tmp_path / "first", address=address) as one,
        serving(tmp_path / "second", login="me:hunter2", address=address) as two,
        closing(DockerEngine()) as engine,
    ):
        login = two.replace("://", "://me:hunter2@")
        (tmp_path / "pip.conf").write_text(
            f"[global]\nindex-url = {one}/simple\nextra-index-url = {login}/simple\n"
            f"trusted-host = {address}\n"
        )
        for option in ("", "--prefer-binary"):  # which uv does not know, and pip does
            image = lm.Image.debian_slim().pip_install(unique, extra_options=option)
            steps: list[StepOutput] = []
            built = engine.build(image, secrets.token_hex(32), steps.append)
            try:
                told = "".join(one.text for one in steps)
                assert f"{unique}==2.0" in told or f"{unique}-2.0" in told
                assert "https_proxy is on this machine's loopback address" in told
                told += json.dumps(need_docker.api.history(built))
                told += json.dumps(need_docker.api.inspect_image(built))
                assert "hunter" not in told
            finally:
                need_docker.images.remove(built, force=True)
        (tmp_path / "pip.conf").write_text(f"[global]\ntrusted-host = {address}\n")
        given = [lm.Secret.from_dict({"PIP_INDEX_URL": f"{login}/simple"})]
        for option in ("", "--prefer-binary"):
            image = lm.Image.debian_slim().pip_install(unique, extra_options=option, secrets=given)
            steps = []
            built = engine.build(image, secrets.token_hex(32), steps.append)
            told = "".join(one.text for one in steps)
            assert f"{unique}==2.0" in told or f"{unique}-2.0" in told
            for one in need_docker.api.history(built), need_docker.api.inspect_image(built):
                told += json.dumps(one)
            need_docker.images.remove(built, force=True)
            assert "hunter" not in told
            assert "PIP_INDEX_URL" not in told
        assert not list((state_root() / "uv").glob("step-*"))
        with pytest.raises(
            BuildError, match=r"step 1 of 1 failed: pip install.*exit code"
        ) as error:
            engine.build(
                lm.Image.debian_slim().pip_install(f"{unique}>2"),
                secrets.token_hex(32),
                lambda one: None,
            )
        assert "hunter" not in str(error.value)
