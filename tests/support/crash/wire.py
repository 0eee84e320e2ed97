"""Inside a process under test: a thread that arms failpoints and holds threads at gates.

A gate stops one thread at a place between "pack received" and the answer, so that strace can be attached to
exactly that thread before it goes on. The gates, in the order in which a push meets them:

- `received`: the event loop, the pack is in quarantine;
- `commit`: the thread that makes the push durable, before anything is recorded;
- `put:N`: the thread that stores the N-th object of the push, journal included.
"""

import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from mainstay.foundation import failpoints
from mainstay.storage.objects.cloud import CloudStore
from mainstay.storage.objects.directory import DirectoryStore
from mainstay.storage.push import PushStore

_HELD_S_MAX = 60.0


class Wire:
    """Serves one connection of the test that started this process."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._gate = ""
        self._puts = 0
        self._lock = threading.Lock()
        self._go = threading.Event()
        self._connection: socket.socket | None = None

    def serve_beside(self) -> None:
        threading.Thread(target=self._serve, name="wire", daemon=True).start()

    def _serve(self) -> None:
        self._connection, _ = self._listener.accept()
        with self._connection.makefile("rb") as lines:
            for line in lines:
                verb, _, argument = line.decode().strip().partition(" ")
                {"arm": failpoints.arm, "gate": self._close_gate, "go": self._open_gate}[verb](argument)
                self._say(f"done {verb}")

    def _close_gate(self, name: str) -> None:
        self._go.clear()
        self._puts = 0
        self._gate = name
        if name == "received":
            failpoints._armed["push.pack_received"] = lambda: self.hold_at("received")

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

    def hold_at_put(self) -> None:
        with self._lock:
            self._puts += 1
            number = self._puts
        self.hold_at(f"put:{number}")

    def _say(self, line: str) -> None:
        if self._connection is not None:
            self._connection.sendall(line.encode() + b"\n")


def build_gates(wire: Wire) -> None:
    """Put the gates in the way of every push of this process."""
    _before(PushStore, "commit", lambda: wire.hold_at("commit"))
    for store in (DirectoryStore, CloudStore):
        _before(store, "put", wire.hold_at_put)
        _before(store, "put_bytes", wire.hold_at_put)


def _before(owner: type, name: str, gate: Callable[[], None]) -> None:
    inner = getattr(owner, name)

    def gated(*args: Any, **kwargs: Any) -> Any:
        gate()
        return inner(*args, **kwargs)

    setattr(owner, name, gated)
