"""Detection of circles: calls from inside containers that would wait for each other for ever.

A call waits for a slot of its pool. The pool is stuck if it is full and each of its slots holds an
input that waits, directly or through other inputs, for a call queued at a stuck pool. The newest
call, which closes the circle, is refused. Calls that no caller waits for, and waits with a timeout,
do not count.

The state of several pools is read without holding their locks. All inputs of a circle stand still,
so what was read stays true; whatever moves meanwhile counts as not stuck.

A circle may lead through other sessions. `graph` describes this session's part of it, which
`lifecycle_magic.services.circle_watch` puts together with that of the others. It also finds the
circles that no call closes: a generator that runs ahead of its reader may wait for a call long
before its reader waits for the next item.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle_magic.calls.far_circles import FullPool, Graph
from lifecycle_magic.calls.forwarded import ForwardedCall, ForwardedInput, ForwardedItems
from lifecycle_magic.exception import InvalidError

if TYPE_CHECKING:
    from lifecycle_magic.calls.input import Input
    from lifecycle_magic.container.slots import RunningInput
    from lifecycle_magic.pool.pool import Pool

__all__ = ["Wait", "add", "add_foreign", "add_reader", "add_relayed", "add_running"]
__all__ += ["find_queued", "graph", "has_readers", "has_relayed", "has_waiting_generators"]
__all__ += ["remove", "remove_reader", "remove_relayed"]

Wait = ForwardedCall | ForwardedItems | ForwardedInput

QueuedWait = ForwardedCall | ForwardedItems
"""A wait for a call that may have to wait for its slot."""

_lock = threading.Lock()
_waits: dict[int, list[Wait]] = {}  # by the id() of the input that waits
_readers: dict[int, Input] = {}  # the input that reads a generator, by the generator's id
_callers: dict[int, Input] = {}  # the inputs that wait, by id()
_relayed: dict[int, dict[str, str]] = {}  # by the id() of the input that waits: see `add_relayed`
_far_readers: dict[str, tuple[Input, str]] = {}  # by the id of a generator in another session
_foreign: weakref.WeakValueDictionary[str, QueuedWait] = weakref.WeakValueDictionary()
_since: weakref.WeakKeyDictionary[QueuedWait, float] = weakref.WeakKeyDictionary()


def add_running(caller: Input, wait: ForwardedInput) -> None:
    """Note that ``caller`` waits for a call that has its slot already, so it closes no circle."""
    with _lock:
        _waits.setdefault(id(caller), []).append(wait)
        _callers[id(caller)] = caller


def add(caller: Input | None, wait: QueuedWait) -> None:
    """Note that ``caller`` waits for a call. Raises `InvalidError` if that can never end."""
    if caller is None:
        return
    with _lock:
        _waits.setdefault(id(caller), []).append(wait)
        _callers[id(caller)] = caller
        _since[wait] = time.monotonic()
        if isinstance(wait, ForwardedItems):
            _readers[id(wait)] = caller
        stuck = _stuck_pools(wait)
    if wait.running_slot() is None and wait.pool in stuck:
        remove(caller, wait)
        raise _error(wait, caller)


def remove(caller: Input | None, wait: Wait) -> None:
    """Note that a call has ended, or that its caller does not wait for it."""
    if caller is None:
        return
    with _lock:
        _readers.pop(id(wait), None)
        waits = _waits.get(id(caller), [])
        if wait in waits:
            waits.remove(wait)
        if not waits:
            _waits.pop(id(caller), None)
        _forget_caller(caller)


def _forget_caller(caller: Input) -> None:
    if id(caller) in _waits or id(caller) in _relayed:
        return
    if not _far_readers or all(one is not caller for one, _ in _far_readers.values()):
        _callers.pop(id(caller), None)


def add_relayed(caller: Input, wait_id: str, session: str) -> None:
    """Note that ``caller`` waits for a call that another session runs under ``wait_id``."""
    with _lock:
        _relayed.setdefault(id(caller), {})[wait_id] = session
        _callers[id(caller)] = caller


def remove_relayed(caller: Input, wait_id: str) -> None:
    """Note that such a call has ended."""
    with _lock:
        waits = _relayed.get(id(caller), {})
        waits.pop(wait_id, None)
        if not waits:
            _relayed.pop(id(caller), None)
        _forget_caller(caller)


def add_reader(caller: Input, wait_id: str, session: str) -> None:
    """Note that ``caller`` reads a generator that another session runs under ``wait_id``."""
    with _lock:
        _far_readers[wait_id] = caller, session
        _callers[id(caller)] = caller


def remove_reader(caller: Input, wait_id: str) -> None:
    """Note that such a generator has ended."""
    with _lock:
        _far_readers.pop(wait_id, None)
        _forget_caller(caller)


def has_readers() -> bool:
    """Return whether an input reads a generator of another session."""
    return bool(_far_readers)


def has_relayed() -> bool:
    """Return whether an input waits for a call of another session."""
    return bool(_relayed)


def has_waiting_generators() -> bool:
    """Return whether a generator that another input reads waits for a call."""
    with _lock:
        return any(isinstance(one, ForwardedItems) for one in _callers.values())


def add_foreign(wait_id: str, wait: QueuedWait) -> None:
    """Note that a caller of another session waits for ``wait``."""
    with _lock:
        _foreign[wait_id] = wait
        _since[wait] = time.monotonic()


def graph(session: str) -> Graph:
    """Return what this session knows: which inputs wait, and which pools are full."""
    with _lock:
        waits = {id(one): one for waits in _waits.values() for one in waits}
        foreign = dict(_foreign)
        waits |= {id(one): one for one in foreign.values()}
        queued = [one for one in waits.values() if _is_queued(one)]
        found = Graph.empty()
        for pool in set(map(_pool, queued)):
            inputs = pool.deadlocks.inputs_if_full()
            if inputs:
                found.full[f"{session}:{id(pool)}"] = FullPool(
                    pool.name,
                    pool.limits.capacity,
                    pool.limits.most,
                    tuple(_key_of_waiter(one, session) for one in inputs),
                )
        for wait in queued:
            place = f"{session}:{id(wait.pool)}"
            since = 0.0 if isinstance(wait, ForwardedInput) else _since.get(wait, 0.0)
            found.queued[_key(wait, session)] = place, since, wait.where
        for one in waits.values():
            found.names[_key(one, session)] = _pool(one).name
        for key, caller in _callers.items():
            own = [_key(one, session) for one in _waited(caller)]
            far = _relayed.get(key, {})
            found.waits[_key(caller, session)] = (*own, *far)
            found.names[_key(caller, session)] = caller.pool.name
            found.sessions.update(far.values())
        for wait_id, (caller, far_session) in _far_readers.items():
            found.aliases[_reader_of(wait_id)] = _key(caller, session)
            found.sessions.add(far_session)
        for wait_id, wait in foreign.items():
            found.aliases[wait_id] = _key(wait, session)
        return found


def find_queued(key: str, session: str) -> Wait | None:
    """Return the call that `graph` names ``key``, if it still waits for a slot."""
    with _lock:
        waits = [one for waits in _waits.values() for one in waits]
        for one in (*waits, *_foreign.values()):
            if _key(one, session) == key and _is_queued(one):
                return one
    return None


def _key(input: Input, session: str) -> str:
    return f"{session}:{input.id}"


def _reader_of(wait_id: str) -> str:
    """Return the key of the input that reads a generator, whose session says which it is."""
    return f"reader:{wait_id}"


def _key_of_waiter(input: RunningInput | None, session: str) -> str:
    """Return the key of the input that ends before its slot is free. Empty if that is unknown."""
    if isinstance(input, ForwardedItems) and input.is_half_read:
        far = next((name for name, one in _foreign.items() if one is input), "")
        return _reader_of(far) if far else _key_of_waiter(_readers.get(id(input)), session)
    key = getattr(input, "id", None)
    return "" if key is None else f"{session}:{key}"


def _stuck_pools(newest: Wait) -> set[Pool]:
    queued = [one for waits in _waits.values() for one in waits if _is_queued(one)]
    found: dict[Pool, list[RunningInput | None]] = {}
    for pool in {_pool(newest), *map(_pool, queued)}:
        inputs = pool.deadlocks.inputs_if_full()
        if inputs:
            found[pool] = inputs
    stuck = set(found)
    while True:
        free = {pool for pool in stuck if not all(_is_blocked(one, stuck) for one in found[pool])}
        if not free:
            return stuck
        stuck -= free


def _is_queued(wait: Wait) -> bool:
    """Return whether a call waits for its slot."""
    return wait.running_slot() is None and not wait.is_answered


def _pool(wait: Wait) -> Pool:
    pool: Pool = wait.pool  # type: ignore[assignment]
    return pool


def _is_blocked(input: RunningInput | None, stuck: set[Pool]) -> bool:
    """Return whether an input in a slot waits for a call that is queued at a stuck pool."""
    if input is None:
        return False
    if isinstance(input, ForwardedItems) and input.is_half_read:
        return _is_blocked(_readers.get(id(input)), stuck)
    return any(
        _is_blocked(one, stuck) if one.running_slot() is not None else one.pool in stuck
        for one in _waited(input)
    )


def _waited(input: RunningInput) -> Iterator[Wait]:
    for one in _waits.get(id(input), ()):
        if not one.is_answered and not (isinstance(one, ForwardedItems) and one.is_half_read):
            yield one


def _error(newest: Wait, caller: Input) -> InvalidError:
    pool = _pool(newest)
    circle = " → ".join([pool.name, *_path(pool, caller), pool.name])
    limits = pool.limits
    return InvalidError(
        f"{newest.where} would wait forever: each call that {pool.name} can run at once "
        f"({limits.capacity}) waits for another one ({circle}). "
        f"Fix: allow it one more container: max_containers={limits.most + 1}"
    )


def _first_input(pool: Pool) -> RunningInput | None:
    """Return an input that runs in a full pool; None if there is none, or a slot is free."""
    return next((one for one in pool.deadlocks.inputs_if_full() or () if one), None)


def _path(pool: Pool, caller: Input) -> list[str]:
    """Return the names of the classes between ``pool`` and the caller of the newest call."""
    names: list[str] = []
    input = _first_input(pool)
    for _ in range(20):
        if input is None or input is caller:
            break
        following = next(_waited(input), None)
        if following is None:
            break
        if following.pool is not pool:
            names.append(following.pool.name)
        input = (
            following if following.running_slot() is not None else _first_input(_pool(following))
        )
    if caller.pool is not pool and (not names or names[-1] != caller.pool.name):
        names.append(caller.pool.name)
    return names
