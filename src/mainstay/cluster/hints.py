"""Hints over Redis: "there is something in the outbox", so that a worker need not wait for its next look.

A hint may be lost, late, doubled or forged: it only makes somebody look at the database earlier. Workers look
there every half second anyway.

- `Sender`: who has committed something says so by `tell()`, which only sets a flag. A thread beside
  publishes; many commits within 50 ms are one hint. While there is nothing to say it asks every two seconds
  whether Redis is there.
- `Listener`: a thread that calls `wake` for every hint, at most twenty times a second.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from mainstay.cluster import softstate
from mainstay.cluster.softstate import Breaker, Location, connect
from mainstay.cluster.watch import UP
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter

log = get_logger()

_NOT_ASKED = "not asked yet"
_TOGETHER_S = 0.05
_PROOF_EVERY_S = 2.0
_LISTEN_S = 0.5
_SILENCE_S = 3.0
"""After so long without a word the listener asks for one; after twice that the connection is given up."""

SENT = counter("hints_sent_total", "Hints to workers, by what became of them.", ["outcome"])
HEARD = counter("hints_heard_total", "Hints that made a worker look at once.")


class Hints(Protocol):
    """What those who commit know of hints."""

    def tell(self) -> None:
        """There is something in the outbox. Returns at once, whatever happens; never raises."""
        ...

    def start(self) -> None:
        """Look for Redis from now on, even before there is something to tell."""
        ...

    def close(self) -> None: ...

    @property
    def problem(self) -> str:
        """Why Redis is not there, as seen within the last seconds; empty when it is, or is not wanted."""
        ...


class NoHints:
    """Where there is no Redis."""

    problem = ""

    def tell(self) -> None:
        """Nobody listens."""

    def start(self) -> None:
        """There is nothing to look for."""

    def close(self) -> None:
        """There is nothing to close."""


class _Thread(ABC):
    """A thread that does its rounds until it is stopped; an error of Redis ends a round, never the thread."""

    def __init__(self, name: str, location: Location) -> None:
        self._location = location
        self._client: Any = None
        self._breaker = Breaker()
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._name = name
        self._problem = _NOT_ASKED

    @property
    def problem(self) -> str:
        """Why Redis is not there, as seen within the last seconds; empty when it is."""
        return self._problem

    def start(self) -> None:
        with self._starting:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Nobody waits for the thread: it ends by itself, or with the process."""
        self._stopping.set()

    def _run(self) -> None:
        trouble = softstate.trouble()
        try:
            while not self._stopping.wait(self._breaker.left_s):
                try:
                    if self._client is None:
                        self._client = connect(self._location)
                    self._round()
                except trouble as error:
                    self._away(error)
            self._drop()
        finally:
            self._problem = "nobody asks any more"

    @abstractmethod
    def _round(self) -> None:
        """Do what there is to do, and say when Redis answered. Raises what the client raises."""

    def _is_there(self) -> None:
        self._breaker.went_well()
        if self._problem:
            log.info("hints.redis_found", thread=self._name)
        self._problem = ""
        UP.labels("redis").set(1)

    def _away(self, error: Exception) -> None:
        self._breaker.failed()
        if self._problem in ("", _NOT_ASKED):
            log.warning("hints.redis_lost", thread=self._name, because=softstate.sentence_of(error))
        self._problem = softstate.sentence_of(error)
        UP.labels("redis").set(0)
        self._drop()

    def _drop(self) -> None:
        """The next round begins with new connections, and asks Sentinels anew."""
        client, self._client = self._client, None
        if client is not None:
            try:
                client.close()
            except softstate.trouble() as error:
                log.debug("hints.close_failed", because=str(error))


class Sender(_Thread):
    """Publishes hints. One per process."""

    def __init__(self, location: Location, *, channel: str) -> None:
        super().__init__("hints-sender", location)
        self._channel = channel
        self._told = threading.Event()

    def tell(self) -> None:
        if not self._told.is_set():
            self._told.set()
            if self._thread is None:
                self.start()

    def close(self) -> None:
        super().close()
        self._told.set()

    def _round(self) -> None:
        if not self._told.wait(_PROOF_EVERY_S):
            self._client.ping()
            self._is_there()
            return
        self._told.clear()
        if self._stopping.is_set():
            return
        self._publish()
        self._stopping.wait(_TOGETHER_S)

    def _publish(self) -> None:
        try:
            self._client.publish(self._channel, b"1")
        except Exception:
            SENT.labels("lost").inc()
            raise
        SENT.labels("sent").inc()
        self._is_there()


class Listener(_Thread):
    """Calls `wake` when somebody else has something for the workers. One per worker process."""

    def __init__(self, location: Location, *, channel: str, wake: Callable[[], None]) -> None:
        super().__init__("hints-listener", location)
        self._channel = channel
        self._wake = wake
        self._subscription: Any = None
        self._heard_s = 0.0
        self._asked = False

    def _round(self) -> None:
        if self._subscription is None:
            self._subscribe()
        if self._hear(_LISTEN_S):
            while self._hear(0.0):
                pass
            HEARD.inc()
            self._wake()
            self._stopping.wait(_TOGETHER_S)
        self._prove()

    def _subscribe(self) -> None:
        self._subscription = self._client.pubsub()
        self._subscription.subscribe(self._channel)
        self._heard_s, self._asked = time.monotonic(), False

    def _hear(self, limit_s: float) -> bool:
        """Whether the next message is a hint."""
        message = self._subscription.get_message(timeout=limit_s)
        if message is None:
            return False
        self._heard_s, self._asked = time.monotonic(), False
        self._is_there()
        if message["type"] == "subscribe":
            # Whatever was said before is lost; so look once.
            return True
        return bool(message["type"] == "message")

    def _prove(self) -> None:
        """A server that is frozen or cut off keeps the connection open and says nothing."""
        silent_s = time.monotonic() - self._heard_s
        if silent_s > 2 * _SILENCE_S:
            raise TimeoutError(f"no word from Redis for {silent_s:.0f} s")
        if silent_s > _SILENCE_S and not self._asked:
            self._asked = True
            self._subscription.ping()

    def _drop(self) -> None:
        self._subscription = None
        super()._drop()
