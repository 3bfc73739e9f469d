"""Fuzz decoders with atheris: ``python -m attack.fuzzing.guided SECONDS NAME...``.

Only lines of the package are counted: instrumenting all that is loaded takes minutes.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

with (
    contextlib.redirect_stderr(io.StringIO()),  # a line for each module
    atheris.instrument_imports(include=["lifecycle_magic"]),
):
    from attack.fuzzing.inputs import CACHE, MOST, corpus, keep
    from attack.fuzzing.targets import BY_NAME, Target, check


def main(seconds: str, *names: str) -> int:
    """Fuzz each decoder in a fork of this process, because libFuzzer ends its process."""
    return max([_fuzz_in_fork(BY_NAME[name], seconds) for name in names])


def _fuzz_in_fork(target: Target, seconds: str) -> int:
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            _fuzz(target, seconds)
        failed = os.waitpid(pid, 0)[1] != 0
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    count = re.findall(r"number_of_executed_units: *(\d+)", text)
    if failed or not count:
        print(f"{target.name}:", text[-8000:], sep="\n", flush=True)
        return 1
    print(f"{target.name}: {count[-1]} inputs", flush=True)
    return 0


def _fuzz(target: Target, seconds: str) -> None:
    """Choose inputs by the lines that they reach. This never returns."""
    for seed in target.seeds:
        keep(target, seed)
    bounds = [f"-max_total_time={seconds}", f"-max_len={MOST}", "-timeout=20"]
    output = [f"-artifact_prefix={CACHE}/crash-", "-print_final_stats=1"]
    atheris.Setup(
        [sys.argv[0], str(corpus(target)), *bounds, *output], lambda data: check(target, data)
    )
    atheris.Fuzz()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
