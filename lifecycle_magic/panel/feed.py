"""What a panel is told, and when: the session's facts, only what changed, while somebody looks.

One thread, which sleeps until somebody looks and something is due. Everything it sends goes through
``send`` as the new values of the panel's traits, so the widget is only the last step, and a test
can stand in its place.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.base import Usage
from lifecycle_magic.history import Entry
from lifecycle_magic.panel import actions, facts
from lifecycle_magic.panel.fold import Fold
from lifecycle_magic.panel.metrics import Sampler
from lifecycle_magic.panel.pace import BEAT, Pace
from lifecycle_magic.panel.pages import Samples, Text
from lifecycle_magic.state import GONE, BuildStep, Event, LogLine, Notice

if TYPE_CHECKING:
    from lifecycle_magic.containers.container import Container
    from lifecycle_magic.session import Session

__all__ = ["Feed"]

Send = Callable[[Mapping[str, Any]], None]

MOST_ACKS = 20
_VERBS = {
    "stop": "could not stop",
    "restart": "could not restart",
    "warm": "could not warm",
    "kill": "could not kill",
}


class Feed:
    """Follows a session for the panel. Every method may be called from any thread.

    ``send`` gets what changed, by the trait's name; it is called on the feed's own thread.
    ``is_open`` tells whether the session still goes on.
    """

    def __init__(
        self, session: Session, send: Send, is_open: Callable[[], bool] = lambda: True
    ) -> None:
        self.session = session
        self._send = send
        self._is_open = is_open
        self._pace = Pace()
        self._wake = threading.Condition()
        self._events: deque[Event] = deque(maxlen=2000)
        self._fold = Fold()
        self._known: dict[str, tuple[str, Container]] = {}
        self._gone: tuple[Entry, ...] = ()
        self._gone_stale = True
        self._offset = time.time() - time.monotonic()
        self._sampler = Sampler(self._sampled)
        self._samples = Samples()
        self._limits: dict[str, int] = {}  # bytes of memory that an engine holds a container to
        self._following = ""
        self._log = Text()
        self._log_at = 0
        self._acks: tuple[str, ...] = ()
        self._told: dict[str, Any] = {}  # what was sent last, by trait
        self._beat_at = float("-inf")
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._unsubscribe = session.bus.subscribe(self._take)

    # --- what the front end says -------------------------------------------------------------

    def see(self, client: str, visible: bool) -> None:
        """A client shows the panel (again), or does not any more."""
        with self._wake:
            self._pace.see(client, visible, time.monotonic())
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(
                    target=self._run, name="lifecycle-panel", daemon=True
                )
                self._thread.start()
            self._wake.notify()

    def hold(self, held: bool) -> None:
        """A cell runs, or has ended."""
        with self._wake:
            self._pace.hold(held, time.monotonic())
            self._wake.notify()

    def follow(self, target: str) -> None:
        """Send the log of a class (its key) or a container (its name); "" is of nothing."""
        with self._wake:
            self._following, self._log, self._log_at = target, Text(), 0
        self._poke()

    def do(self, id: str, what: str, target: str) -> threading.Thread:
        """Do what a button asks for, on a thread; what goes wrong is told as a notice."""
        with self._wake:
            self._acks = (*self._acks, id)[-MOST_ACKS:]
        self._poke()
        thread = threading.Thread(
            target=self._do, args=(what, target), name=f"lifecycle-{what}", daemon=True
        )
        thread.start()
        return thread

    def _do(self, what: str, target: str) -> None:
        key, container = self._known.get(target, (target, None))
        try:
            if container is None:
                {"stop": actions.stop, "restart": actions.restart, "warm": actions.warm}[what](
                    self.session, key
                )
            else:
                {"stop": actions.stop_container, "kill": actions.kill}[what](container)
        except Exception as error:
            service = self.session.services.get(key)
            name = service.name if service is not None else target
            told = f"{_VERBS.get(what, what)} {name}: {type(error).__name__}: {error}"
            with self._wake:
                self._fold.say(name, told, time.time())
        self._poke()

    def close(self) -> None:
        """Follow no more."""
        self._unsubscribe()
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._sampler.join()

    # --- what the session says ---------------------------------------------------------------

    def _take(self, event: Event) -> None:
        """On any thread, perhaps under a container's lock, and twice in each call: be quick."""
        if isinstance(event, (BuildStep, Notice)):
            self._events.append(event)
        elif isinstance(event, LogLine):
            if not self._following:
                return
        elif event.state in GONE:
            self._gone_stale = True
        if not self._pace.dirty:
            self._poke()

    def _sampled(self, at: float, used: dict[str, Usage]) -> None:
        with self._wake:
            self._samples.add(at, used)
            self._limits = {n: one.memory_limit for n, one in used.items() if one.memory_limit}
        self._poke()

    def _poke(self) -> None:
        with self._wake:
            self._pace.dirty = True
            self._wake.notify()

    # --- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._stopping and (wait := self._pace.due(time.monotonic())) != 0:
                    self._wake.wait(wait)
                if self._stopping:
                    return
                self._pace.began(time.monotonic())
            self.look()

    def look(self) -> None:
        """Look at the session and send what is not as it was sent last."""
        now = time.monotonic()
        changes = {name: value for name, value in self._all().items() if self._differs(name, value)}
        if changes or now - self._beat_at >= BEAT:
            self._beat_at = now
            changes["beat"] = round(time.time(), 1)
            self._told.update(changes)
            self._send(changes)

    def about(self) -> dict[str, Any]:
        """The session itself, and whether it still goes on."""
        return {
            "id": self.session.id,
            "pid": os.getpid(),
            "cores": os.cpu_count() or 1,
            "open": self._is_open(),
        }

    def _differs(self, name: str, value: Any) -> bool:
        return name not in self._told or self._told[name] != value

    def _all(self) -> dict[str, Any]:
        session = self.session
        with self._wake:
            while self._events:
                self._fold.take(self._events.popleft())
            notices, acks = [dataclasses.asdict(said) for said in self._fold.notices], self._acks
        self._known = {
            name: one
            for name, one in (self._known | facts.live(session)).items()
            if not one[1].gone.is_set()
        }
        self._read_gone()
        here = list(self._known.values())
        keys = set(session.services)
        containers, lives = facts.containers(here, self._gone, keys, self._limits, self._offset)
        self._sampler.ask([container for _, container in here])
        told: dict[str, Any] = {
            "session": self.about(),
            "classes": [dataclasses.asdict(one) for one in facts.classes(session, self._fold)],
            "containers": [dataclasses.asdict(one) for one in containers],
            "lives": {name: list(dataclasses.astuple(life)) for name, life in lives.items()},
            "notices": notices,
            "acks": list(acks),
        }
        with self._wake:
            self._read_log()
            told["samples_old"], told["samples_new"] = self._samples.old, self._samples.new
            told["log_old"], told["log_new"] = self._log.old, self._log.new
            told["log_shown"], told["log_cut"] = self._following, self._log.cut
        return told

    def _read_gone(self) -> None:
        """Read the history again after a container went: until its end is in it, it is known."""
        if self._gone_stale:
            self._gone_stale = False  # before the look: one that goes meanwhile sets it again
            if any(container.state in GONE for _, container in self._known.values()):
                self._gone_stale = True
            entries = self.session.history.entries()
            self._gone = tuple(one for one in entries if one.session == self.session.id)

    def _read_log(self) -> None:
        if not self._following:
            return
        key, container = self._log_of(self._following)
        text, self._log_at = self.session.output.since(self._log_at, key, container)
        self._log.add(_sendable(text))

    def _log_of(self, target: str) -> tuple[str, str | None]:
        """A class's key and, if the target is one of its containers, that one's name."""
        if target in self._known:
            return self._known[target][0], target
        if target in self.session.services:
            return target, None
        return next((e.service for e in self._gone if e.container == target), ""), target


def _sendable(text: str) -> str:
    """Text that JSON can carry: output may hold halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()
