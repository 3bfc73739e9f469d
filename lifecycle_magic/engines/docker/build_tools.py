"""The folder that a container which installs packages has: uv, and the settings of this machine.

What it holds may have a password in it, of an index or a proxy. So it is a file of this user, there
for the step alone, and no variable of the container: the engine shows those to everybody.
"""

from __future__ import annotations

import contextlib
import json
import netrc
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from lifecycle_magic.engines import host_settings, pip_settings
from lifecycle_magic.engines.docker.launch import GUEST, RUN
from lifecycle_magic.host.paths import private_folder, state_root
from lifecycle_magic.wire.host_settings import HOST

_INDEXES = ("index-url", "extra-index-url", "find-links")
_TRAVEL = (*_INDEXES, "trusted-host", "no-binary", "only-binary", "pre", "timeout", "retries")

_UNREACHABLE = (
    "{} is on this machine's loopback address, where no container reaches it, and is left out. "
    f"Fix: have it listen on the engine's bridge as well, and name it http://{HOST}:PORT"
)


@contextlib.contextmanager
def folder(uv: Path | None) -> Iterator[tuple[Path, list[str]]]:
    """Make the folder, with a copy of ``uv`` if there is one, and remove it after the block.

    Also give what of pip's configuration no container can use, each in a sentence.
    """
    parent = private_folder(state_root() / "uv")
    place = Path(tempfile.mkdtemp(prefix="step-", dir=parent))
    try:
        settings, notices = of_this_machine(os.environ, place)
        given = {"env": _proxies(os.environ, notices), "pip": settings}
        (place / "given.json").write_text(json.dumps(given))
        if uv is not None:
            _link(uv, parent, place / "uv")
        yield place, notices
    finally:
        shutil.rmtree(place, ignore_errors=True)


def of_this_machine(host: Mapping[str, str], place: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Return the settings of this machine's pip that hold in a container, and what does not.

    Files that they name are copied to ``place``. Logins of the user's netrc go into the URLs.
    """
    found = pip_settings.read(host)
    notices: list[str] = []
    settings: dict[str, list[str]] = {}
    for option in _TRAVEL:
        values = found.get(option, [])
        if option in _INDEXES:
            values = [url for url in values if _is_web(url)]  # others are this machine's folders
            notices += [_unreachable(url) for url in values if host_settings.on_loopback(url)]
            values = [
                _with_login(url, host) for url in values if not host_settings.on_loopback(url)
            ]
        if values:
            settings[option] = values
    for option in ("constraint", "cert"):
        for number, path in enumerate(found.get(option, ())):
            with contextlib.suppress(OSError):
                name = f"{option}-{number}"
                shutil.copyfile(path, place / name)
                settings.setdefault(option, []).append(f"{GUEST}/{name}")
    return settings, notices


def _is_web(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def _unreachable(url: str) -> str:
    parts = urlsplit(url)
    return _UNREACHABLE.format(f"pip's index at {parts.hostname}:{parts.port or 80}")


def _with_login(url: str, host: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    path = host.get("NETRC") or os.path.join(host.get("HOME", "/"), ".netrc")
    if "@" in parts.netloc or not os.path.exists(path):
        return url
    try:
        login = netrc.netrc(path).authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError):
        return url
    if login is None:
        return url
    user = ":".join(quote(one or "", safe="") for one in (login[0], login[2]))
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc}"))


def _proxies(host: Mapping[str, str], notices: list[str]) -> dict[str, str]:
    found = {}
    for name, value in host_settings.proxies(host).items():
        if name.lower() != "no_proxy" and host_settings.on_loopback(value):
            notices.append(_UNREACHABLE.format(name))
        else:
            found[name] = value
    return found


def _link(uv: Path, parent: Path, target: Path) -> None:
    """Have uv at ``target``. One copy in ``parent`` is linked: uv is large."""
    status = uv.stat()
    copy = parent / f"{status.st_size}-{status.st_mtime_ns}"
    if not copy.exists():
        part = copy.with_name(f".{copy.name}-{os.getpid()}")
        shutil.copy(uv, part)
        part.replace(copy)
    try:
        os.link(copy, target)
    except OSError:  # a file system without hard links
        shutil.copy(copy, target)


def script() -> str:
    """Return the program that installs: uv, and where it fails the image's pip.

    The image's python3 runs it, for pip's settings in the image count as well. Its arguments are
    those after ``pip install``.
    """
    import inspect

    return inspect.getsource(pip_settings) + _SCRIPT


# As pip does it: the best of all indexes, modules compiled now, because a container that compiles
# them on import keeps nothing of it; and an image is nobody's system.
_SCRIPT = f'''

def main():
    import json
    import subprocess

    with open("{GUEST}/given.json") as file:
        given = json.load(file)
    for name, value in given["env"].items():
        os.environ.setdefault(name, value)
    settings = merged(read(os.environ), given["pip"])
    env = dict(os.environ)
    for name, value in uv_variables(settings, env).items():
        env.setdefault(name, value)
    env.update(UV_LINK_MODE="copy", UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1")
    env.update(UV_CACHE_DIR="{RUN}", NO_COLOR="1", UV_NO_CONFIG="1")
    env.setdefault("UV_SYSTEM_CERTS", "true")
    env["UV_PYTHON"] = sys.executable  # this one, of all that the image may have
    uv = ["{GUEST}/uv", "pip", "install", "--break-system-packages", "--compile-bytecode"]
    tool, *wanted = sys.argv[1:]
    if tool == "pip":
        uv += ["--index-strategy=unsafe-best-match", *uv_options(settings)]
    if os.path.exists(uv[0]):
        code = subprocess.call([*uv, *wanted], env=env)
        if code == 0 or tool != "pip":
            return code
        print("uv could not do it: the image's pip has a try", flush=True)
    env = dict(os.environ)
    env.update(pip_variables(settings))
    env.update(PIP_BREAK_SYSTEM_PACKAGES="1", PIP_ROOT_USER_ACTION="ignore")
    env.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_USER="0")
    pip = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--no-input"]
    return subprocess.call([*pip, "--progress-bar=off", *wanted], env=env)


sys.exit(main())
'''
