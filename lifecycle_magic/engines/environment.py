"""Virtual environments for the process engine: made by uv, of the kernel's own Python.

So the Python minor on both ends is equal by construction. An environment sees none of the host's
site-packages. It is *relocatable* (``uv venv --relocatable``): a sandbox has it at another path.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lifecycle_magic import full
from lifecycle_magic.engines import leash
from lifecycle_magic.exception import BuildError

OnLine = Callable[[str], None]

# Passed from the kernel's environment to builds' commands and to instances: where the certificates
# and proxies are, how text is written, where shared libraries lie. Nothing else is.
PASSED = (
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "LD_LIBRARY_PATH",
    *(
        name
        for low in ("http", "https", "all", "no")
        for name in (f"{low}_proxy", f"{low}_PROXY".upper())
    ),
)
CERTIFICATES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_UVS = (
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "UV_SYSTEM_PYTHON",
    "UV_PYTHON",
    "UV_PROJECT_ENVIRONMENT",
)
_TAIL = 20


def base_python() -> str:
    """The interpreter behind the kernel's own environment; venvs are made of it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def base_id() -> str:
    """A digest (hex) of the host's Python: its version, path and platform."""
    told = "\n".join((sys.version, base_python(), sys.base_prefix, platform.platform()))
    return hashlib.sha256(told.encode()).hexdigest()


def python_prefixes() -> tuple[str, ...]:
    """The folders that the interpreter and its standard library lie in."""
    beside = os.path.dirname(os.path.dirname(base_python()))
    return tuple(dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, beside)))


def find_uv() -> str:
    """The uv that came with us; raises `FileNotFoundError` with the mend."""
    try:
        import uv

        return os.fspath(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise FileNotFoundError("uv is not installed: pip install uv") from None


def clean_environment(host: Mapping[str, str], *, home: str, venv: str) -> dict[str, str]:
    """A minimal environment: of the host's variables only certificates, proxies, locale, libraries.

    >>> clean_environment({"TOKEN": "s3cret", "TZ": "UTC"}, home="/root", venv="/opt/venv")["TZ"]
    'UTC'
    """
    passed = {name: host[name] for name in (*PASSED, *CERTIFICATES) if name in host}
    return {
        "LANG": "C.UTF-8",
        **passed,
        "PATH": f"{venv}/bin:{_SYSTEM_PATH}",
        "HOME": home,
        "VIRTUAL_ENV": venv,
    }


def make(folder: Path, *, seed: bool, on_line: OnLine) -> None:
    """Make an empty environment at ``folder``; with ``seed`` it has pip, for commands that call it.

    Raises `BuildError`.
    """
    command = [find_uv(), "venv", "--quiet", "--python", base_python(), "--relocatable"]
    _uv([*command, *(["--seed"] if seed else []), str(folder)], folder.parent, on_line)


def install(
    folder: Path, arguments: Sequence[str], on_line: OnLine, *, shown: str | None = None
) -> None:
    """``uv pip install`` into the environment at ``folder``; raises `BuildError`.

    Modules are compiled now: an instance's environment is read-only and could not keep them.
    """
    python = str(folder / "bin" / "python")
    command = [find_uv(), "pip", "install", "--python", python, "--compile-bytecode", *arguments]
    _uv(command, folder.parent, on_line, shown)


def _uv(command: list[str], cwd: Path, on_line: OnLine, shown: str | None = None) -> None:
    # uv is a tool of the user's, run as the user would: indexes, credentials and caches are found
    # in the whole environment. What it installs never sees more than `clean_environment`.
    env = {name: value for name, value in os.environ.items() if name not in _NOT_UVS}
    for name, value in pip_settings().items():
        env.setdefault(name, value)
    env.update(UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1", NO_COLOR="1")
    env.setdefault("UV_SYSTEM_CERTS", "true")  # a company's own authority is in the system's store
    stream(
        command, env=env, cwd=cwd, on_line=on_line, shown=shown or shlex.join(["uv", *command[1:]])
    )


def pip_settings(host: Mapping[str, str] | None = None) -> dict[str, str]:
    """Pip's index settings in uv's variables, which does not read them itself.

    Looked for where pip looks: its configuration files, then ``PIP_*`` of ``host`` (default: the
    process's environment). Empty if uv has settings of its own there.
    """
    host = os.environ if host is None else host
    if any(
        name in host for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE")
    ):
        return {}
    home = Path(host.get("HOME", "/"))
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    files += [Path(sys.prefix) / "pip.conf"]
    if "PIP_CONFIG_FILE" in host:
        files.append(Path(host["PIP_CONFIG_FILE"]))
    parser = configparser.RawConfigParser()
    try:
        parser.read(files)
    except (configparser.Error, UnicodeDecodeError):
        return {}  # pip itself would say so; the install step fails with its own words
    found: dict[str, str] = {}
    for option, ours in (
        ("index-url", "UV_DEFAULT_INDEX"),
        ("extra-index-url", "UV_INDEX"),
        ("find-links", "UV_FIND_LINKS"),
    ):
        variable = "PIP_" + option.replace("-", "_").upper()
        value = host.get(variable, "").strip()
        for section in ("install", "global"):
            value = value or parser.get(section, option, fallback="").strip()
        if value:
            separator = "," if ours == "UV_FIND_LINKS" else " "
            found[ours] = separator.join(value.split())
    return found


def stream(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    on_line: OnLine,
    shown: str,
) -> None:
    """Run ``command``, hand each line of its output to ``on_line`` as it comes. It does not outlive
    this process.

    ``shown`` is how an error calls the command. Raises `BuildError` with it, the exit code and
    the last 20 lines.
    """
    text = redact(shown)
    tail: deque[str] = deque(maxlen=_TAIL)
    try:
        process = subprocess.Popen(
            [base_python(), "-I", "-S", leash.__file__, *command],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE,  # held open: its end is the command's end
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise BuildError(f"{text}: could not start: {error}") from None
    with process:
        assert process.stdout is not None
        try:
            for raw in process.stdout:
                line = redact(raw.rstrip("\r\n"))
                tail.append(line)
                on_line(line)
            process.wait()
        except BaseException:  # an interrupted cell: its build must not go on behind it
            _end_session(process.pid)
            raise
    if process.returncode:
        said = "\n".join((f"{text}\nended with exit code {process.returncode}:", *tail))
        raise BuildError(said + full.mend(said))


def redact(text: str) -> str:
    """``text`` without the user and password of any URL in it."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)


def _end_session(leader: int) -> None:
    import signal

    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
