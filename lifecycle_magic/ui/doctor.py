"""``doctor``: check this machine for what the product needs, and report a fix for each problem.

A check that fails is itself reported as a finding.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lifecycle_magic.ui import machine_checks
from lifecycle_magic.ui.machine_checks import Finding
from lifecycle_magic.ui.panel.text import plain

__all__ = ["examine", "text"]


def examine(root: Path) -> list[Finding]:
    """Check engines, sandbox, the state folder ``root``, and limits. Takes about a second."""
    docker = _safely("Docker", machine_checks.docker)
    process = _safely("process engine", machine_checks.process_engine)
    if docker.verdict != "ok" and process.verdict != "ok":
        docker = Finding(docker.what, "fail", docker.details, docker.fix)
    chosen = os.environ.get("LIFECYCLE_MAGIC_ENGINE", "")
    return [
        _safely("Python", machine_checks.python),
        docker,
        process,
        _safely("sandbox", machine_checks.sandbox),
        _safely("chosen engine", machine_checks.chosen_engine),
        *(
            [_safely("swarm", lambda: machine_checks.swarm(chosen))]
            if chosen.startswith("swarm")
            else []
        ),
        _safely("state", lambda: machine_checks.state_folder(root)),
        _safely("disk", lambda: machine_checks.disk(root)),
        _safely("sessions", lambda: machine_checks.sessions(root)),
        _safely("kept", lambda: machine_checks.kept_containers(root)),
        _safely("memory limits", machine_checks.memory_limits),
        _safely("open files", machine_checks.open_files),
        _safely("processes", machine_checks.processes),
        _safely("shared memory", machine_checks.shared_memory),
        _safely("GPUs", lambda: machine_checks.gpus(root)),
    ]


def text(findings: list[Finding]) -> str:
    """Return the findings as lines, each fix below its finding."""
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        details = " ".join(plain(finding.details).split())
        lines.append(f"{finding.verdict:<4}  {finding.what:<{width}}  {details}")
        if finding.fix and finding.verdict != "ok":
            lines.append(f"{'':<4}  {'':<{width}}  → {finding.fix}")
    return "\n".join(lines)


def _safely(what: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        return Finding(what, "warn", f"the check failed: {type(error).__name__}: {error}")
