"""No input makes a decoder hang, take much memory, unpickle, or raise what it does not document."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from attack.fuzzing import targets
from attack.fuzzing.inputs import CACHE, inputs, keep, kept
from attack.fuzzing.targets import BY_NAME, TARGETS, Found, Target, check
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from lifecycle_magic.errors.remote import rebuild
from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frame_header import HEADER, MAGIC
from lifecycle_magic.wire.frames import Channel, Kind
from lifecycle_magic.wire.messages import ExceptionRecord, Failure, TracebackEntry, failure, output

pytestmark = pytest.mark.xdist_group("fuzzing")

EXAMPLES = 60
"""Of each decoder: all of them together take less than half a minute."""

FUZZED = settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    deadline=None,  # `check` counts the thread's own time, whatever else runs
    database=DirectoryBasedExampleDatabase(CACHE / "fuzzing"),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_decoder_bears_any_input(name: str) -> None:
    target = BY_NAME[name]
    for data in (*target.seeds, *kept(target, 100)):
        check(target, data)

    seen: set[str] = set()

    @FUZZED
    @given(inputs(target))
    def run(data: bytes) -> None:
        outcome = check(target, data)
        if outcome not in seen:
            seen.add(outcome)
            keep(target, data)

    run()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (lambda: [][1], "IndexError"),
        (lambda: [0] * 30_000_000, "MiB"),
        (lambda: pickle.loads(pickle.dumps(Path("x"))), "unpickled"),
        (lambda: os.open("/dev/null", os.O_RDONLY), "descriptor"),
        (lambda: sum(range(3_000_000)), "processor time"),
    ],
    ids=["exception", "memory", "pickle", "descriptor", "time"],
)
def test_what_no_decoder_may_do_is_found(
    fault: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "processor time":
        monkeypatch.setattr(targets, "MOST_SECONDS", 0.01)
    left: list[Any] = []
    with pytest.raises(Found, match=why):
        check(Target("bad", lambda data: left.append(fault()), (ValueError,), ()), b"")
    if why == "descriptor":
        os.close(left[0])


def test_every_decoder_has_inputs_that_it_takes_and_inputs_that_it_refuses() -> None:
    for target in TARGETS:
        outcomes = {check(target, seed).partition(" ")[0] for seed in target.seeds}
        assert "returned" in outcomes
        if target.raises:
            assert len(outcomes) > 1, target.name


def test_a_header_that_claims_much_takes_no_memory_before_it_arrives() -> None:
    code = f"""
import resource, socket
from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frames import Channel
here, there = socket.socketpair()
there.sendall({HEADER.pack(MAGIC, Kind.RESULT, 0, 0, 0, 12 << 30)!r} + b"x" * 100_000)
there.close()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    Channel(here).receive()
except WireError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 64 << 10  # KiB


def test_a_large_part_arrives_whole() -> None:
    here, there = socket.socketpair()
    data = os.urandom(1 << 20) * 40
    with here, there:
        sender = threading.Thread(target=Channel(there).send, args=(Kind.RESULT, data, [data[:9]]))
        sender.start()
        frame = Channel(here).receive()
        sender.join()
    assert frame is not None
    assert frame.payload == data
    assert bytes(frame.buffers[0]) == data[:9]


# --- pickles: they come from our own worker, after the token -------------------------------------

PICKLES = [
    pickle.dumps(("stdout", "text" * 20)),
    pickle.dumps(
        Failure((ExceptionRecord("ValueError", "x", pickle.dumps(ValueError)),), {"a.py": "x"})
    ),
    pickle.dumps({"a": [1, 2.5, None, b"x" * 300]}),
]


@pytest.mark.parametrize("read", [output, failure])
def test_a_pickle_that_is_cut_or_something_else_is_a_wire_error(read: Any) -> None:
    taken = 0
    for whole in PICKLES:
        for end in range(len(whole) + 1):
            try:
                read(memoryview(whole[:end]))
            except WireError:
                continue
            taken += 1
    assert taken == 1


def records() -> st.SearchStrategy[ExceptionRecord]:
    """Records as a worker may send them, with classes and states that fit or do not."""
    pickled = st.sampled_from([pickle.dumps(one) for one in (ValueError, KeyError, int, 7)])
    index = st.none() | st.integers(-1, 4)
    word = st.text(max_size=9)
    number = st.integers(-1, 1 << 40)
    line = st.builds(TracebackEntry, word, number, word, word, number)
    members = st.lists(st.integers(-1, 4), max_size=5).map(tuple)
    data = st.none() | pickled | st.binary(max_size=4) | st.just(b"")
    return st.builds(
        ExceptionRecord,
        type_name=st.text(max_size=9),
        text=st.text(max_size=30),
        cls=pickled | st.text(max_size=9),
        own=data,
        state=data,
        lost=st.tuples() | st.tuples(st.text(max_size=9)),
        group=st.none() | st.tuples(word, members),
        cause=index,
        context=index,
        suppress_context=st.booleans(),
        lines=st.lists(line, max_size=2).map(tuple),
    )


@FUZZED
@given(st.lists(records(), min_size=4, max_size=4))
def test_records_of_exceptions_always_become_an_exception(found: list[ExceptionRecord]) -> None:
    began = time.thread_time()
    made = rebuild(Failure(tuple(found), {}), "Model.load")
    assert isinstance(made, BaseException)
    assert time.thread_time() - began < 2
