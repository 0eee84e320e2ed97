"""The SSH door alone, on a loopback port in a thread of its own, over a gate and a Git service in memory."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncssh

from mainstay.access.actors import Actor
from mainstay.doors.ssh.host_keys import host_keys_from
from mainstay.doors.ssh.server import SshServer, serve
from mainstay.doors.ssh.settings import SshSettings
from mainstay.foundation.clock import SYSTEM
from support.fake_gate import FakeGate


class MemoryStore(dict[str, str]):
    """A `HostKeyStore`."""

    def put_if_absent(self, name: str, value: str) -> str:
        return self.setdefault(name, value)


_HOST_KEYS = MemoryStore()


@dataclass
class SshDoor:
    """The running door. `run` runs a coroutine beside it."""

    server: SshServer
    gate: FakeGate
    loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        return self.server.port

    def stop(self, *, drain_s: float) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(drain_s=drain_s), self.loop).result(30)

    def admit(self, public_key: str, actor: Actor) -> None:
        self.gate.keys[asyncssh.import_public_key(public_key).get_fingerprint()] = actor


@contextmanager
def ssh_door(service: Any, **limits: Any) -> Iterator[SshDoor]:
    """Serve until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    gate = FakeGate()
    try:
        serving = serve(
            host="127.0.0.1",
            port=0,
            service=service,
            gate=gate,
            host_keys=host_keys_from(_HOST_KEYS),
            settings=SshSettings(**limits),
            clock=SYSTEM,
            clone_url=lambda path: f"ssh://git@git.test/{path}.git",
        )
        door = SshDoor(asyncio.run_coroutine_threadsafe(serving, loop).result(30), gate, loop)
        yield door
        door.stop(drain_s=0)
    finally:
        asyncio.run_coroutine_threadsafe(_settle(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _settle() -> None:
    """Let what was cancelled end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=5)
