"""The data feed of a panel: it sends changed facts of the session while a page shows the panel.

One thread does the work; it sleeps until a page is visible and an update is due. It sends the new
values of the panel's traits by ``send``, so a test can replace the widget.
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
from lifecycle_magic.lifecycle.history import HistoryEntry
from lifecycle_magic.lifecycle.states import ENDED_STATES, Event, LogLine, Notice, Transition
from lifecycle_magic.ui.panel import actions, facts
from lifecycle_magic.ui.panel.kept_facts import KeptSearch
from lifecycle_magic.ui.panel.metrics import Sampler
from lifecycle_magic.ui.panel.notices import Notices
from lifecycle_magic.ui.panel.pace import BEAT_SECONDS, Pace
from lifecycle_magic.ui.panel.pages import Samples, Text

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.session.session import Session

__all__ = ["Feed"]

Send = Callable[[Mapping[str, Any]], None]

MAX_ACKS = 20
_VERBS = {
    "stop": "could not stop",
    "restart": "could not restart",
    "warm": "could not warm",
    "kill": "could not kill",
}


class Feed:
    """The feed of one session. Every method may be called from any thread.

    ``send`` is called on the feed's own thread with the changed values by trait name. ``is_open``
    returns whether the session is still open.
    """

    def __init__(
        self, session: Session, send: Send, is_open: Callable[[], bool] = lambda: True
    ) -> None:
        self.session = session
        self._send = send
        self._is_open = is_open
        self._pace = Pace()
        self._wake = threading.Condition()
        self._arrived: deque[Notice] = deque(maxlen=2000)
        self._notices = Notices()
        self._kept = KeptSearch(session.root, self._poke)
        self._known: dict[str, tuple[str, Container]] = {}
        self._gone: tuple[HistoryEntry, ...] = ()
        self._gone_stale = True
        self._offset = time.time() - time.monotonic()
        self._sampler = Sampler(self._on_sample)
        self._samples = Samples()
        self._limits: dict[str, int] = {}  # memory limits in bytes, by container name
        self._gpus: dict[str, str] = {}  # in words, by container name
        self._following = ""
        self._log = Text()
        self._log_at = 0
        self._acks: tuple[str, ...] = ()
        self._sent: dict[str, Any] = {}  # the values sent last, by trait
        self._beat_at = float("-inf")
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._unsubscribe = session.bus.subscribe(self._take)

    # --- requests of the front end -------------------------------------------------------------

    def see(self, client: str, visible: bool) -> None:
        """Record that a client shows the panel, or no longer shows it."""
        with self._wake:
            self._pace.see(client, visible, time.monotonic())
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(
                    target=self._run, name="lifecycle-panel", daemon=True
                )
                self._thread.start()
            self._wake.notify()

    def hold(self, held: bool) -> None:
        """Record that a cell runs, or has ended."""
        with self._wake:
            self._pace.hold(held, time.monotonic())
            self._wake.notify()

    def follow(self, target: str) -> None:
        """Send the log of a class (its key) or a container (its name); "" sends no log."""
        with self._wake:
            self._following, self._log, self._log_at = target, Text(), 0
        self._poke()

    def do(self, id: str, what: str, target: str) -> threading.Thread:
        """Run the action of a button on a thread; an error becomes a notice."""
        with self._wake:
            self._acks = (*self._acks, id)[-MAX_ACKS:]
        self._poke()
        thread = threading.Thread(
            target=self._do, args=(what, target), name=f"lifecycle-{what}", daemon=True
        )
        thread.start()
        return thread

    def _do(self, what: str, target: str) -> None:
        key, container = self._known.get(target, (target, None))
        try:
            if what == "stop" and any(one.name == target for one in self._kept.latest):
                actions.stop_kept(self.session, target)
                self._kept.ask_soon()
            elif container is None:
                {"stop": actions.stop, "restart": actions.restart, "warm": actions.warm}[what](
                    self.session, key
                )
            else:
                {"stop": actions.stop_container, "kill": actions.kill}[what](container)
        except Exception as error:
            service = self.session.services.get(key)
            name = service.name if service is not None else target
            text = f"{_VERBS.get(what, what)} {name}: {type(error).__name__}: {error}"
            with self._wake:
                self._notices.add(name, text, time.time())
        self._poke()

    def close(self) -> None:
        """Stop the feed."""
        self._unsubscribe()
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._sampler.join()
        self._kept.join()

    # --- events of the session ---------------------------------------------------------------

    def _take(self, event: Event) -> None:
        """Queue an event. Must be fast: it runs twice per call, maybe under a container's lock."""
        if isinstance(event, Notice):
            self._arrived.append(event)
        elif isinstance(event, LogLine):
            if not self._following:
                return
        elif isinstance(event, Transition) and event.state in ENDED_STATES:
            self._gone_stale = True
        if not self._pace.dirty:
            self._poke()

    def _on_sample(self, at: float, used: dict[str, Usage], gpus: dict[str, str]) -> None:
        with self._wake:
            self._samples.add(at, used)
            self._gpus = gpus
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
                self._pace.start_update(time.monotonic())
            self.look()

    def look(self) -> None:
        """Read the session and send the values that changed since the last update."""
        now = time.monotonic()
        changes = {name: value for name, value in self._all().items() if self._differs(name, value)}
        if changes or now - self._beat_at >= BEAT_SECONDS:
            self._beat_at = now
            changes["beat"] = round(time.time(), 1)
            self._sent.update(changes)
            self._send(changes)

    def about(self) -> dict[str, Any]:
        """Return the facts of the session itself, and whether it is still open."""
        return {
            "id": self.session.id,
            "pid": os.getpid(),
            "cores": os.cpu_count() or 1,
            "open": self._is_open(),
        }

    def _differs(self, name: str, value: Any) -> bool:
        return name not in self._sent or self._sent[name] != value

    def _all(self) -> dict[str, Any]:
        session = self.session
        with self._wake:
            while self._arrived:
                self._notices.take(self._arrived.popleft())
            notices, acks = [dataclasses.asdict(one) for one in self._notices.latest], self._acks
        self._known = {
            name: one
            for name, one in (self._known | facts.live(session)).items()
            if not one[1].exited.is_set()
        }
        self._read_gone()
        here = list(self._known.values())
        keys = set(session.services)
        containers, lives = facts.containers(
            here, self._gone, keys, self._limits, self._offset, self._gpus
        )
        self._sampler.ask([container for _, container in here])
        self._kept.ask()
        values: dict[str, Any] = {
            "session": self.about(),
            "classes": [dataclasses.asdict(one) for one in facts.classes(session)],
            "containers": [dataclasses.asdict(one) for one in containers],
            "lives": {name: list(dataclasses.astuple(life)) for name, life in lives.items()},
            "kept": [dataclasses.asdict(one) for one in self._kept.latest],
            "notices": notices,
            "acks": list(acks),
        }
        with self._wake:
            self._read_log()
            values["samples_old"], values["samples_new"] = self._samples.old, self._samples.new
            values["log_old"], values["log_new"] = self._log.old, self._log.new
            values["log_shown"], values["log_cut"] = self._following, self._log.cut
        return values

    def _read_gone(self) -> None:
        """Read the history again after a container exited, until the history has its end."""
        if self._gone_stale:
            self._gone_stale = (
                False  # before reading: a container that exits meanwhile sets it again
            )
            if any(container.state in ENDED_STATES for _, container in self._known.values()):
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
        """Return the key of the target's class, and the name if the target is a container."""
        if target in self._known:
            return self._known[target][0], target
        if target in self.session.services:
            return target, None
        return next((e.service for e in self._gone if e.container == target), ""), target


def _sendable(text: str) -> str:
    """Return text that JSON can encode: output may contain lone surrogates."""
    return text.encode("utf-8", "replace").decode()
