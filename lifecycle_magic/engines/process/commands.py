"""Commands as this machine runs them, for builds and guests, in a sandbox or without one.

In a sandbox, a snapshot or an instance's copy of it is the root folder, and every path is fixed.
Without one, paths are the host's, and that folder is only the working folder and ``$HOME``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lifecycle_magic.engines.base import Launch
from lifecycle_magic.engines.process import (
    environments,
    keeper,
    process_table,
    run_steps,
    sandbox,
    unsupported_options,
)
from lifecycle_magic.engines.process.sandbox import Bind, Sandbox
from lifecycle_magic.engines.process.start_keeper import Job
from lifecycle_magic.engines.process.store import ImageRecord
from lifecycle_magic.gpus.environment import variables


class Commands:
    """A factory of commands, to run below ``bwrap`` (a bubblewrap that works) or without a sandbox.

    >>> Commands(None).run_path(Path("/state/run/s/c"))
    '/state/run/s/c'
    """

    def __init__(self, bwrap: str | None) -> None:
        self._bwrap = bwrap

    @property
    def sandboxed(self) -> bool:
        """Return whether commands run in a sandbox."""
        return self._bwrap is not None

    def run_path(self, run_dir: Path) -> str:
        """Return where a guest sees ``run_dir``: `/run/lifecycle` in a sandbox, otherwise the path
        itself.
        """
        return str(run_dir.absolute()) if self._bwrap is None else sandbox.RUN

    def prepare_root(self, root: Path, workdir: str | None) -> None:
        """Create in ``root`` what commands need in addition to the snapshot in it."""
        if self._bwrap is not None:
            sandbox.prepare_root(root)
        (root / "tmp").mkdir(exist_ok=True)
        if workdir is not None:
            run_steps.inside(root, workdir, follow=True).mkdir(parents=True, exist_ok=True)

    def of_step(
        self, command: str, made: run_steps.StepsResult, volumes: Sequence[Bind] = ()
    ) -> run_steps.PreparedCommand:
        """Return one of a recipe's shell commands, to run on what was ``made`` so far.

        Without a sandbox, ``volumes`` are used where they lie.
        """
        self.prepare_root(made.root, made.workdir)
        env = {**self._environment(made.root, made.venv), **made.env}
        shell = ["/bin/sh", "-c", command]
        if self._bwrap is None:
            return run_steps.PreparedCommand(shell, env, Path(_own_folder(made.root, made.workdir)))
        box = Sandbox(
            root=str(made.root),
            workdir=made.workdir or sandbox.HOME,
            hostname="build",
            binds=(Bind(str(made.venv), sandbox.VENV, "rw"), *volumes),
            ends_with_parent=True,
        )
        return run_steps.PreparedCommand(
            _in_sandbox(self._bwrap, box, shell, made.python.prefixes), env, made.root
        )

    def of_guest(
        self,
        launch: Launch,
        instance: Path,
        venv: Path,
        image: ImageRecord,
        volumes: Sequence[Bind],
    ) -> Job:
        """Return the job of a keeper for the guest of ``launch``.

        ``instance`` is its folder, ``venv`` the environment of ``image``. Without a sandbox,
        ``volumes`` are used where they lie.
        """
        if sys.platform != "linux":
            raise NotImplementedError("only Linux can do this")
        env = self._environment(instance / "root", venv)
        env |= variables(launch.gpus, has_amd=os.path.exists("/dev/kfd"))
        env |= {**image.env, process_table.MARKER: launch.name}
        python = f"{env['VIRTUAL_ENV']}/bin/python"
        if self._bwrap is None:
            command = [python, str(launch.guest_dir.absolute()), self.run_path(launch.run_dir)]
            cwd = _own_folder(instance / "root", image.workdir)
        else:
            box = Sandbox(
                root=str(instance / "root"),
                workdir=image.workdir or sandbox.HOME,
                hostname=launch.name[:64],  # HOST_NAME_MAX
                binds=(
                    Bind(str(venv), sandbox.VENV),
                    Bind(str(launch.guest_dir.absolute()), sandbox.GUEST),
                    Bind(str(launch.run_dir.absolute()), sandbox.RUN, "rw"),
                    *volumes,
                ),
                block_network=launch.block_network,
                shm_size=launch.shm_size,
            )
            inside = [python, sandbox.GUEST, sandbox.RUN]
            late = sandbox.gpu_devices(launch.gpus)
            if not launch.block_network:
                late += sandbox.hosts_bind(launch.run_dir)
            command = _in_sandbox(
                self._bwrap, box, inside, image.prefixes, late, info_fd=keeper.INFO_FD
            )
            cwd = ""
        return Job(
            name=launch.name,
            instance=instance,
            run_dir=launch.run_dir,
            command=command,
            env=env,
            cwd=cwd,
            # Numeric libraries (OpenMP, OpenBLAS, MKL) size their pools by the affinity mask, so
            # no OMP_NUM_THREADS is needed to go with it.
            cpus=unsupported_options.choose_cpus(
                launch.cpu, launch.name, sorted(os.sched_getaffinity(0))
            ),
            kill_strays=self._bwrap is None,
        )

    def _environment(self, root: Path, venv: Path) -> dict[str, str]:
        """Return the environment of commands and guests, without the image's variables."""
        if self._bwrap is None:
            home, seen, tmp = str(root), str(venv), str(root / "tmp")
        else:
            home, seen, tmp = sandbox.HOME, sandbox.VENV, "/tmp"
        clean = environments.clean_environment(os.environ, home=home, venv=seen)
        return {**clean, "TMPDIR": tmp}


def _in_sandbox(
    bwrap: str,
    box: Sandbox,
    command: Sequence[str],
    pythons: Sequence[str],
    late: Sequence[Bind] = (),
    info_fd: int | None = None,
) -> list[str]:
    certificates = [os.environ[name] for name in environments.CERTIFICATES if name in os.environ]
    return sandbox.command_line(
        bwrap,
        box,
        command,
        host=sandbox.host_binds(pythons or environments.python_prefixes(), certificates),
        late=(*sandbox.resolver_binds(), *late),
        info_fd=info_fd,
        masked=sandbox.private_files() if os.geteuid() == 0 else (),
        privileged=os.geteuid() == 0,
    )


def _own_folder(root: Path, workdir: str | None) -> str:
    """Return the working folder without a sandbox: ``workdir`` below the instance's own root."""
    return str(root / (workdir or "").lstrip("/"))
