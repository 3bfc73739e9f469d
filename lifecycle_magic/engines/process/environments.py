"""Virtual environments for the process engine: created by uv, with a Python of this machine.

An environment sees none of the host's site-packages. It is *relocatable* (``uv venv
--relocatable``): a sandbox has it at another path.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from lifecycle_magic.engines import pip_settings
from lifecycle_magic.engines.host_settings import PROXIES
from lifecycle_magic.engines.output_tail import OutputTail
from lifecycle_magic.engines.process import build_command
from lifecycle_magic.exception import BuildError
from lifecycle_magic.host import disk_full, process_limit
from lifecycle_magic.wire import descriptors

OnLine = Callable[[str], None]

# Passed from the kernel's environment to builds' commands and to instances: where the certificates
# and proxies are, how text is written, where shared libraries lie. Nothing else is.
PASSED = (
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "LD_LIBRARY_PATH",
    *PROXIES,
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

# What uv prints where it reaches no index: pip would try long, and not do better.
_OFFLINE = re.compile(r"dns error|failed to lookup address|Connection refused|Network is unreach")


def base_python() -> str:
    """Return the interpreter behind the kernel's own environment, which environments are
    made of.
    """
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def python_prefixes() -> tuple[str, ...]:
    """Return the folders that contain the interpreter and its standard library."""
    beside = os.path.dirname(os.path.dirname(base_python()))
    return tuple(dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, beside)))


def find_uv() -> str:
    """Return the uv that was installed with this package; raises `FileNotFoundError` with
    the fix.
    """
    try:
        import uv

        return os.fspath(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise FileNotFoundError("uv is not installed. Fix: pip install uv") from None


def clean_environment(host: Mapping[str, str], *, home: str, venv: str) -> dict[str, str]:
    """Return a minimal environment: certificates, proxies, locale and libraries of the host's.

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


def make(folder: Path, *, python: str, seed: bool, on_line: OnLine) -> None:
    """Create an empty environment at ``folder`` of the interpreter ``python``; with ``seed`` it has
    pip, for commands that call it.

    Raises `BuildError`.
    """
    command = [find_uv(), "venv", "--quiet", "--python", python, "--relocatable"]
    _uv([*command, *(["--seed"] if seed else []), str(folder)], folder.parent, on_line)


def install(
    folder: Path,
    arguments: Sequence[str],
    on_line: OnLine,
    *,
    shown: str | None = None,
    tool: Literal["pip", "uv"] = "pip",
    extra: Mapping[str, str] | None = None,
) -> None:
    """Run ``uv pip install`` in the environment at ``folder``; raises `BuildError`.

    With ``tool`` pip it finds what the user's pip would find: uv gets pip's settings and its rule,
    the best of all indexes, and if uv fails, pip is tried. Modules are compiled now, because an
    instance's environment is read-only and could not store them.
    """
    host = {**os.environ, **(extra or {})}
    python = str(folder / "bin" / "python")
    command = [find_uv(), "pip", "install", "--python", python, "--compile-bytecode"]
    if tool == "pip":
        command += ["--index-strategy=unsafe-best-match"]
        command += pip_settings.uv_options(pip_settings.read(host))
    try:
        _uv([*command, *arguments], folder.parent, on_line, shown, extra)
    except BuildError as error:
        pip = _pip() if tool == "pip" and not _OFFLINE.search(str(error)) else None
        if pip is None or disk_full.is_full(str(error)):
            raise
        on_line("uv can't do it: pip has a try")
        try:
            _install_by_pip([*pip, "--python", python], arguments, folder.parent, on_line, extra)
        except BuildError:
            raise error from None


def _install_by_pip(
    pip: Sequence[str],
    arguments: Sequence[str],
    cwd: Path,
    on_line: OnLine,
    extra: Mapping[str, str] | None = None,
) -> None:
    env = {name: value for name, value in os.environ.items() if name not in _NOT_UVS}
    env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    env |= {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", **(extra or {})}
    install = ["install", "--no-input", "--progress-bar=off", *arguments]
    shown = shlex.join(["pip", *install])
    stream([*pip, *install], env=env, cwd=cwd, on_line=on_line, shown=shown)


def _pip() -> list[str] | None:
    """Return a command that runs pip: this Python's own, or the one that comes with Python."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    with contextlib.suppress(ImportError, OSError):
        import ensurepip

        for wheel in Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"):
            return [sys.executable, f"{wheel}/pip"]
    return None


def _uv(
    command: list[str],
    cwd: Path,
    on_line: OnLine,
    shown: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    env = {**uv_environment({**os.environ, **(extra or {})}), "UV_PYTHON_DOWNLOADS": "never"}
    stream(
        command, env=env, cwd=cwd, on_line=on_line, shown=shown or shlex.join(["uv", *command[1:]])
    )


def uv_environment(host: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment in which uv runs, made of that of the host."""
    # uv is a tool of the user's, run as the user would: indexes, credentials and caches are found
    # in the whole environment. What it installs never sees more than `clean_environment`.
    env = {name: value for name, value in host.items() if name not in _NOT_UVS}
    settings = pip_settings.read(host)
    for name, value in pip_settings.uv_variables(settings, host).items():
        env.setdefault(name, value)
    env.update(UV_NO_PROGRESS="1", NO_COLOR="1")
    env.setdefault("UV_SYSTEM_CERTS", "true")  # a company's own authority is in the system's store
    return env


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
    tail = OutputTail()
    try:
        process = subprocess.Popen(
            [
                *(
                    base_python(),
                    "-I",
                    "-S",
                    build_command.__file__,
                    str(descriptors.limit_before()),
                ),
                *command,
            ],
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
        why = descriptors.explain(error) or error
        raise BuildError(f"{text}: could not start: {why}") from None
    with process:
        assert process.stdout is not None
        try:
            for raw in process.stdout:
                line = redact(raw.rstrip("\r\n"))
                tail.add(f"{line}\n")
                on_line(line)
            process.wait()
        except BaseException:  # an interrupted cell: its build must not go on behind it
            _end_session(process.pid)
            raise
    if process.returncode:
        message = "\n".join((f"{text}\nended with exit code {process.returncode}:", *tail.lines()))
        raise BuildError(_explained(message))


def _explained(message: str) -> str:
    limit = process_limit.explain(message)
    return f"{message}\nFix: {limit}" if limit else message + disk_full.fix_line(message)


def redact(text: str) -> str:
    """``text`` without the user and password of any URL in it."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)


def _end_session(leader: int) -> None:
    import signal

    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
