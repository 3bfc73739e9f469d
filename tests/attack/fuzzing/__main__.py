"""Fuzz the decoders for as long as you like: ``python -m attack.fuzzing --minutes 30``.

With atheris, where it is installed, inputs are chosen by the lines that they reach; otherwise
hypothesis chooses them. Both read the corpus and add to it.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time

from attack.fuzzing.inputs import inputs, keep
from attack.fuzzing.targets import BY_NAME, TARGETS, Target, check


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m attack.fuzzing", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="for all decoders together")
    parser.add_argument("--target", choices=BY_NAME, help="one decoder instead of all")
    given = parser.parse_args()
    targets = [BY_NAME[given.target]] if given.target else TARGETS
    seconds = given.minutes * 60 / len(targets)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: hypothesis chooses the inputs", flush=True)
        return max([_with_hypothesis(target, seconds) for target in targets])
    command = [sys.executable, "-m", "attack.fuzzing.guided", str(max(1, round(seconds)))]
    return subprocess.run([*command, *(target.name for target in targets)], check=False).returncode


def _with_hypothesis(target: Target, seconds: float) -> int:
    from attack.fuzzing.test_decoders import FUZZED
    from hypothesis import given, settings

    end, seen, count = time.monotonic() + seconds, set[str](), 0

    @settings(FUZZED, max_examples=500)
    @given(inputs(target))
    def run(data: bytes) -> None:
        nonlocal count
        count += 1
        outcome = check(target, data)
        if outcome not in seen:
            seen.add(outcome)
            keep(target, data)

    try:
        while time.monotonic() < end:
            run()
    except AssertionError as error:
        print(f"{target.name}: {error}", *getattr(error, "__notes__", ()), sep="\n", flush=True)
        return 1
    print(f"{target.name}: {count} inputs, {len(seen)} outcomes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
