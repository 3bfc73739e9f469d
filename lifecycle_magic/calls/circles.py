"""Detection of circles: calls from inside containers that would wait for each other for ever.

A call waits for a slot of its pool. The pool is stuck if it is full and each of its slots holds an
input that waits, directly or through other inputs, for a call queued at a stuck pool. The newest
call, which closes the circle, is refused. Calls that no caller waits for, and waits with a timeout,
do not count.

The state of several pools is read without holding their locks. All inputs of a circle stand still,
so what was read stays true; whatever moves meanwhile counts as not stuck.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle_magic.calls.forwarded import ForwardedCall, ForwardedItems
from lifecycle_magic.exception import InvalidError

if TYPE_CHECKING:
    from lifecycle_magic.calls.input import Input
    from lifecycle_magic.container.slots import RunningInput
    from lifecycle_magic.pool.pool import Pool

__all__ = ["Wait", "add", "remove"]

Wait = ForwardedCall | ForwardedItems

_lock = threading.Lock()
_waits: dict[int, list[Wait]] = {}  # by the id() of the input that waits
_readers: dict[int, Input] = {}  # the input that reads a generator, by the generator's id


def add(caller: Input | None, wait: Wait) -> None:
    """Note that ``caller`` waits for a call. Raises `InvalidError` if that can never end."""
    if caller is None:
        return
    with _lock:
        _waits.setdefault(id(caller), []).append(wait)
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


def _stuck_pools(newest: Wait) -> set[Pool]:
    queued = [one for waits in _waits.values() for one in waits if one.running_slot() is None]
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
        if not (isinstance(one, ForwardedItems) and one.is_half_read):
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
