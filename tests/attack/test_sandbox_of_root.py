"""The sandbox of a kernel that root runs gives code neither the machine's secrets nor its knobs."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from lifecycle_magic.engines.process.sandbox import private_files

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.geteuid() != 0, reason="it is the machine's root that could do harm"),
]

PROBING = """
    import errno, os
    import lifecycle_magic as lm

    app = lm.App("probing", engine="process")

    def attempt(path, flags):
        try:
            os.close(os.open(path, flags))
        except OSError as error:
            return errno.errorcode[error.errno]
        return "opened"

    @app.cls()
    class Probing:
        @lm.method()
        def write(self, paths):
            return {path: attempt(path, os.O_WRONLY) for path in paths}

        @lm.method()
        def read(self, paths):
            return {path: open(path, "rb").read(100) for path in paths if os.path.isfile(path)}

        @lm.method()
        def listed(self, paths):
            return {path: os.listdir(path) for path in paths}
"""


@pytest.fixture
def probing(need_bwrap: str) -> Iterator[Any]:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(textwrap.dedent(PROBING), space)
    yield space["Probing"]()
    space["app"].stop()


def test_settings_of_the_machine_can_not_be_written(probing: Any) -> None:
    paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory"]
    paths.append("/proc/sysrq-trigger")
    paths = [path for path in paths if os.path.exists(path)]
    assert set(probing.write.remote(paths).values()) <= {"EROFS", "EACCES", "ENOENT"}
    assert probing.read.remote(["/proc/sys/kernel/ostype"]) == {
        "/proc/sys/kernel/ostype": b"Linux\n"
    }


def test_what_others_may_not_read_is_empty_there(probing: Any) -> None:
    hidden = private_files()
    assert "/etc/shadow" in hidden
    files = [path for path in hidden if not path.endswith("/")]
    assert set(probing.read.remote(files).values()) <= {b""}
    folders = [path for path in hidden if path.endswith("/")]
    assert all(not found for found in probing.listed.remote(folders).values())
    assert b"root:" in probing.read.remote(["/etc/passwd"])["/etc/passwd"]
