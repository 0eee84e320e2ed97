"""Inside a process under test: a thread that arms failpoints and holds threads at gates.

A gate stops one thread at a place between "pack received" and the answer, so that strace can be attached to
exactly that thread before it goes on. The gates, in the order in which a push meets them:

- `received`: the event loop, the pack is in quarantine;
- `commit`: the thread that makes the push durable, before anything is recorded;
- `put:N`: the thread that stores the N-th object of the push, journal included;
- `at:POINT`: whoever passes the failpoint;
- `transaction:N`: whoever is about to commit the N-th transaction that writes to PostgreSQL, all locks held.

A process may also be born with a gate closed: `MAINSTAY_CRASH_GATE`.
"""

import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mainstay.foundation import failpoints
from mainstay.storage.database import postgresql
from mainstay.storage.database.orm.base import DatabaseWrapper
from mainstay.storage.objects.cloud import CloudStore
from mainstay.storage.objects.directory import DirectoryStore
from mainstay.storage.push import PushStore

_HELD_S_MAX = 60.0


class Wire:
    """Serves one connection of the test that started this process."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._gate = ""
        self._passed: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._go = threading.Event()
        self._accepted = threading.Event()
        self._connection: socket.socket | None = None

    def serve_beside(self) -> None:
        threading.Thread(target=self._serve, name="wire", daemon=True).start()

    def _serve(self) -> None:
        self._connection, _ = self._listener.accept()
        self._accepted.set()
        with self._connection.makefile("rb") as lines:
            for line in lines:
                verb, _, argument = line.decode().strip().partition(" ")
                {"arm": failpoints.arm, "gate": self.close_gate, "go": self._open_gate}[verb](argument)
                self._say(f"done {verb}")

    def close_gate(self, name: str) -> None:
        self._go.clear()
        self._passed.clear()
        self._gate = name
        point = "push.pack_received" if name == "received" else name.removeprefix("at:")
        if point != name:
            failpoints._armed[point] = lambda: self.hold_at(name)

    def _open_gate(self, _argument: str) -> None:
        self._go.set()

    def hold_at(self, name: str) -> None:
        """Hold the calling thread here, once, if this is the gate that is closed."""
        with self._lock:
            if self._gate != name:
                return
            self._gate = ""
        self._say(f"at {threading.get_native_id()}")
        if not self._go.wait(_HELD_S_MAX):
            sys.exit(f"held at {name} for {_HELD_S_MAX:.0f} s")

    def hold_at_next(self, kind: str) -> None:
        """The gates of a kind are numbered as they are passed."""
        with self._lock:
            self._passed[kind] += 1
            number = self._passed[kind]
        self.hold_at(f"{kind}:{number}")

    def _say(self, line: str) -> None:
        if self._accepted.wait(_HELD_S_MAX) and self._connection is not None:
            self._connection.sendall(line.encode() + b"\n")


def build_gates(wire: Wire) -> None:
    """Put the gates in the way of every push of this process."""
    _before(PushStore, "commit", lambda: wire.hold_at("commit"))
    for store in (DirectoryStore, CloudStore):
        _before(store, "put", lambda: wire.hold_at_next("put"))
        _before(store, "put_bytes", lambda: wire.hold_at_next("put"))
    _before(postgresql, "commit", lambda: wire.hold_at_next("transaction"))
    _before(DatabaseWrapper, "_commit", lambda: wire.hold_at_next("transaction"))


def _before(owner: type | ModuleType, name: str, gate: Callable[[], None]) -> None:
    inner = getattr(owner, name)

    def gated(*args: Any, **kwargs: Any) -> Any:
        gate()
        return inner(*args, **kwargs)

    setattr(owner, name, gated)
