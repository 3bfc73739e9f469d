"""A class that looks at the container it runs in, in a module that travels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lifecycle_magic as lm


def declare(app: lm.App) -> Any:
    @app.cls()
    class Looking:
        @lm.method()
        def limit_of_processes(self) -> str:
            places = ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")
            return next(Path(place).read_text().strip() for place in places if Path(place).exists())

        @lm.method()
        def orphan(self) -> int:
            """Leave a process without its parent, wait until it has ended; the zombies then."""
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                if os.fork() == 0:
                    os._exit(0)  # after its parent, or before: the first process has to bury it
                os._exit(0)
            os.waitpid(child, 0)
            os.close(write)
            os.read(read, 1)  # at its end when nobody else holds the pipe: both are gone
            os.close(read)
            return child

        @lm.method()
        def zombies(self) -> int:
            states = []
            for stat in Path("/proc").glob("[0-9]*/stat"):
                try:
                    states.append(stat.read_text().rpartition(")")[2].split()[0])
                except OSError:
                    continue
            return states.count("Z")

    return Looking
