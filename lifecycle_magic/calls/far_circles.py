"""Circles of calls that lead through several sessions: how to find one in what each session knows.

The inputs of a circle stand still. Each session is asked at another moment, so a circle counts only
if it is found twice: whatever the second look confirms was there all the time in between.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Circle", "FullPool", "Graph", "find_circle", "merge"]


class FullPool(NamedTuple):
    """A pool in which no slot is free and no container may start.

    ``inputs`` has for each slot the input that must end before the slot is free, empty if that is
    unknown. ``capacity`` is the number of inputs at a time, ``most`` that of containers.
    """

    name: str
    capacity: int
    most: int
    inputs: tuple[str, ...]


class Graph(NamedTuple):
    """Which inputs wait for what. Inputs and pools have keys that begin with their session.

    ``waits`` maps an input to the calls that it waits for, ``queued`` a call to its full or other
    pool, the time since when it waits for a slot, and its method in words. ``aliases`` maps the
    names under which other sessions wait for calls to their inputs. ``names`` are those of
    classes, ``sessions`` the ids of other sessions that run calls for this one. An alias that
    begins with ``reader:`` stands for the input that reads a generator.
    """

    full: dict[str, FullPool]
    waits: dict[str, tuple[str, ...]]
    queued: dict[str, tuple[str, float, str]]
    aliases: dict[str, str]
    names: dict[str, str]
    sessions: set[str]

    @classmethod
    def empty(cls) -> Graph:
        """Return a graph without any input."""
        return cls({}, {}, {}, {}, {}, set())


class Circle(NamedTuple):
    """A circle, and the queued call in it that came last, which is to fail.

    ``stuck`` are the pools whose inputs all wait, ``path`` the names of classes, ``aliases`` the
    names under which other sessions wait for the call.
    """

    call: str
    where: str
    pool: FullPool
    path: tuple[str, ...]
    stuck: frozenset[str]
    aliases: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """The text of the error for the call."""
        sessions = {pool.partition(":")[0] for pool in self.stuck}
        through = ", through other sessions" if len(sessions) > 1 else ""
        return (
            f"{self.where} would wait forever: each call that {self.pool.name} can run at once "
            f"({self.pool.capacity}) waits for another one ({' → '.join(self.path)}){through}. "
            f"Fix: allow it one more container: max_containers={self.pool.most + 1}"
        )


def merge(graphs: list[Graph]) -> Graph:
    """Return what several sessions know together."""
    found = Graph.empty()
    for one in graphs:
        found.full.update(one.full)
        found.waits.update(one.waits)
        found.queued.update(one.queued)
        found.aliases.update(one.aliases)
        found.names.update(one.names)
        found.sessions.update(one.sessions)
    return found


def find_circle(graph: Graph) -> Circle | None:
    """Return the circle in a graph, None if each pool has an input that can end."""
    stuck = set(graph.full)
    while True:
        free = {
            pool
            for pool in stuck
            if not all(_is_blocked(graph, one, stuck) for one in graph.full[pool].inputs)
        }
        if not free:
            break
        stuck -= free
    calls = {
        call
        for pool in stuck
        for one in graph.full[pool].inputs
        for call in _queued_calls(graph, one, stuck)
    }
    if not calls:
        return None
    last = max(calls, key=lambda call: (graph.queued[call][1], call))
    pool, _, where = graph.queued[last]
    aliases = tuple(sorted(alias for alias, one in graph.aliases.items() if one == last))
    path = _path(graph, pool, stuck)
    return Circle(last, where, graph.full[pool], path, frozenset(stuck), aliases)


def _targets(graph: Graph, input: str) -> list[str]:
    own = graph.aliases.get(input, input)
    return [graph.aliases.get(call, call) for call in graph.waits.get(own, ())]


def _is_blocked(graph: Graph, input: str, stuck: set[str], depth: int = 0) -> bool:
    """Return whether an input waits, directly or through others, for a queue of a stuck pool."""
    if not input or depth > len(graph.waits):
        return False
    return any(
        graph.queued[one][0] in stuck
        if one in graph.queued
        else _is_blocked(graph, one, stuck, depth + 1)
        for one in _targets(graph, input)
    )


def _queued_calls(graph: Graph, input: str, stuck: set[str], depth: int = 0) -> set[str]:
    found: set[str] = set()
    for one in _targets(graph, input) if depth <= len(graph.waits) else ():
        if one not in graph.queued:
            found |= _queued_calls(graph, one, stuck, depth + 1)
        elif graph.queued[one][0] in stuck:
            found.add(one)
    return found


def _path(graph: Graph, start: str, stuck: set[str]) -> tuple[str, ...]:
    """Return the names of the classes from a pool back to itself, or as far as they are known."""
    names = [graph.full[start].name]
    input = graph.full[start].inputs[0]
    for _ in range(20):
        following = next(
            (
                one
                for one in _targets(graph, input)
                if (graph.queued[one][0] in stuck if one in graph.queued else True)
                and (one in graph.queued or _is_blocked(graph, one, stuck))
            ),
            None,
        )
        if following is None:
            break
        names.append(graph.names.get(following, "?"))
        if following not in graph.queued:
            input = following
            continue
        pool = graph.queued[following][0]
        if pool == start:
            break
        input = graph.full[pool].inputs[0]
    return tuple(names)
