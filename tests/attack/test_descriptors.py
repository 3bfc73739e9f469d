"""A process without a file descriptor left says so, and keeps what is warm."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lifecycle_magic.wire import descriptors

WORK = """
    import contextlib, os, resource, sys
    import lifecycle_magic as lm

    app = lm.App("short")

    @app.cls()
    class Work:
        @lm.method()
        def echo(self, x):
            return x

        @lm.method()
        def make(self, size):
            return bytearray(size)

        @lm.method()
        def limit(self):
            return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

        @lm.method()
        def take_all(self):
            self.taken = []
            while True:
                self.taken.append(open("/dev/null"))

        @lm.method()
        def give_back(self):
            self.taken.clear()
            return os.getpid()

    @contextlib.contextmanager
    def nothing_left():
        taken = []
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        try:
            yield
        finally:
            for one in taken:
                os.close(one)

    def attempt(what, call):
        try:
            print(what, "returned", call(), flush=True)
        except Exception as error:
            notes = getattr(error, "__notes__", [])
            print(what, "raised", type(error).__name__, error, *notes, flush=True)
"""


def run(code: str, folder: Path, *, soft: int = 256, hard: int | None = None) -> str:
    """Run a script in a process with these limits of open files; what it printed."""
    script = folder / "short.py"
    script.write_text(textwrap.dedent(WORK) + textwrap.dedent(code))

    def limit() -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if hard is None else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))

    done = subprocess.run(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=limit,
        timeout=150,
        check=False,
    )
    return done.stdout


@pytest.mark.slow
def test_a_kernel_without_descriptors_names_that_and_keeps_its_container(
    engine_name: str, tmp_path: Path
) -> None:
    told = run(
        """
        work = Work()
        work.echo.remote(1)
        from lifecycle_magic.session import session
        [container] = session.current().containers()
        with nothing_left():
            attempt("small", lambda: work.echo.remote(2))
            attempt("large", lambda: len(work.make.remote(2_000_000)))
            attempt("larger", lambda: len(work.echo.remote(bytearray(3_000_000))))
        attempt("after", lambda: len(work.make.remote(4_000_000)))
        print("same", session.current().containers()[0] is container)
        app.stop()
        """,
        tmp_path,
        hard=256,
    )
    assert "small returned 2" in told, told
    assert "large returned 2000000" in told, told
    assert "larger returned 3000000" in told, told
    assert "after returned 4000000" in told, told
    assert "same True" in told, told


@pytest.mark.slow
def test_a_start_without_descriptors_names_the_count_and_the_fix(
    engine_name: str, tmp_path: Path
) -> None:
    told = run(
        """
        work = Work()
        work.echo.remote(1)
        app.stop()
        from lifecycle_magic.session import session
        for one in session.current().containers():
            one.exited.wait(30)
        with nothing_left():
            attempt("cold", lambda: work.echo.remote(2))
            attempt("spawned", lambda: work.echo.spawn(2).get())
        attempt("after", lambda: work.echo.remote(3))
        app.stop()
        """,
        tmp_path,
        hard=256,
    )
    for what in ("cold", "spawned"):
        [line] = [line for line in told.splitlines() if line.startswith(what)]
        assert "256 file descriptors open" in line, told
        assert "Fix: " in line, told
        assert "ulimit -n 4096" in line, told
    assert "after returned 3" in told, told


@pytest.mark.slow
def test_a_method_that_takes_all_descriptors_is_told_so_and_its_container_stays(
    engine_name: str, tmp_path: Path
) -> None:
    told = run(
        """
        work = Work()
        attempt("all", work.take_all.remote)
        attempt("large", lambda: len(work.echo.remote(bytearray(3_000_000))))
        attempt("back", work.give_back.remote)
        attempt("after", lambda: work.echo.remote(3))
        app.stop()
        """,
        tmp_path,
    )
    assert "all raised OSError" in told, told
    assert "this container has" in told, told
    assert "large returned 3000000" in told, told
    assert "back returned" in told, told
    assert "after returned 3" in told, told


@pytest.mark.process
def test_a_raised_limit_is_the_kernels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "process")
    told = run(
        """
        attempt("inside", Work().limit.remote)
        print("here", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        app.stop()
        """,
        tmp_path,
        soft=700,
        hard=4000,
    )
    assert "inside returned 700" in told, told
    assert "here 4000" in told, told


@pytest.mark.slow
def test_a_process_with_64_descriptors_works_or_says_why_not(
    engine_name: str, tmp_path: Path
) -> None:
    told = run(
        """
        attempt("one", lambda: Work().echo.remote(1))
        app.stop()
        """,
        tmp_path,
        soft=64,
        hard=64,
    )
    assert "one returned 1" in told or "of 64 file descriptors open. Fix: " in told, told


def test_other_errors_are_not_explained() -> None:
    assert descriptors.explain(OSError(2, "No such file")) == ""
    assert "ulimit -n" in descriptors.explain(OSError(24, "Too many open files"))
    assert "fs.file-max" in descriptors.explain(OSError(23, "Too many open files in system"))
    assert "ulimit -n" in descriptors.explain("ConnectionError: [Errno 24] Too many open files")


def test_the_reserve_is_there_when_nothing_else_is() -> None:
    code = """
        import os, resource
        from lifecycle_magic.wire import descriptors
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        descriptors.reserve()
        taken = []
        while not descriptors.is_exhausted():
            taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(3):
            with descriptors.room():
                assert not descriptors.is_exhausted()
            assert descriptors.is_exhausted()
        assert "40 of 40" in descriptors.exhausted(), descriptors.exhausted()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=os.environ)
