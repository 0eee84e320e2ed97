"""One channel of a connection as the two ends of a conversation, with back-pressure in both directions.

Three things asyncssh leaves open are closed here. It keeps every environment variable that a client sends:
we keep one. It writes as far as the client's window reaches, however large the client says it is and
however little the client reads: we wait for the socket, too. And it waits for ever: we do not.
"""

import asyncio
from collections.abc import Awaitable, Callable

import asyncssh
from asyncssh.packet import SSHPacket

from mainstay.doors.ssh.settings import SshSettings
from mainstay.foundation.errors import OutcomeUnknown
from mainstay.repository.streams import ClientGone

_HELD_BYTES_MAX = 512 * 1024
_WRITE_AHEAD_BYTES = 256 * 1024
_SLICE_BYTES = 128 * 1024
_GIT_PROTOCOL = b"GIT_PROTOCOL"
_GIT_PROTOCOL_BYTES_MAX = 256

Hold = Callable[[str | None, str, "Session"], Awaitable[int]]
"""Takes the command (None: a shell), `GIT_PROTOCOL` and the session; returns the exit code."""


class Channel(asyncssh.SSHServerChannel[bytes]):
    """A channel that takes one environment variable."""

    def _process_env_request(self, packet: SSHPacket) -> bool:
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        if name != _GIT_PROTOCOL or len(value) > _GIT_PROTOCOL_BYTES_MAX:
            return False
        self._env[name] = value
        return True


class Valve:
    """Open while bytes may flow."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def close(self) -> None:
        self._open.clear()

    def reopen(self) -> None:
        self._open.set()

    async def wait(self) -> None:
        await self._open.wait()


class Session(asyncssh.SSHServerSession[bytes]):
    """Implements `conversation.Line` over a channel."""

    def __init__(
        self, *, hold: Hold, socket_valve: Valve, settings: SshSettings, ended: Callable[[], None]
    ) -> None:
        self._hold = hold
        self._tell_ended = ended
        self._socket_valve = socket_valve
        self._settings = settings
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._arrived: list[bytes] = []
        self._arrived_bytes = 0
        self._ended = False
        self._gone = False
        self._something_arrived = asyncio.Event()
        self._window_valve = Valve()
        self._command: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    # What asyncssh calls

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan
        chan.set_write_buffer_limits(high=_WRITE_AHEAD_BYTES)
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(self._settings.command_s_max, chan.abort)

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def subsystem_requested(self, subsystem: str) -> bool:  # noqa: ARG002 - asyncssh's signature
        return False

    def session_started(self) -> None:
        if self._patience:
            self._patience.cancel()
        self._task = asyncio.get_running_loop().create_task(self._converse())

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:  # noqa: ARG002 - same
        self._arrived.append(data)
        self._arrived_bytes += len(data)
        if self._arrived_bytes >= _HELD_BYTES_MAX and self._channel:
            self._channel.pause_reading()
        self._something_arrived.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._something_arrived.set()
        return True

    def pause_writing(self) -> None:
        self._window_valve.close()

    def resume_writing(self) -> None:
        self._window_valve.reopen()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - same
        self._gone = True
        self._something_arrived.set()
        self._window_valve.reopen()
        if self._patience:
            self._patience.cancel()
        if self._task:
            self._task.cancel()
        self._tell_ended()

    # What a conversation uses

    async def read(self) -> bytes:
        if not self._arrived and not self._ended:
            self._something_arrived.clear()
            await self._within_patience(self._something_arrived.wait)
        if self._gone and not self._ended:
            raise ClientGone
        return self._take()

    async def write(self, chunk: bytes) -> None:
        # asyncssh moves what is left of a chunk to the front for each packet: long ones would cost a square.
        for start in range(0, len(chunk), _SLICE_BYTES):
            await self._write(chunk[start : start + _SLICE_BYTES], None)

    async def complain(self, text: str) -> None:
        await self._write(text.encode("utf-8", "replace") + b"\n", asyncssh.EXTENDED_DATA_STDERR)

    async def _write(self, chunk: bytes, datatype: asyncssh.DataType) -> None:
        if self._gone or self._channel is None or self._channel.is_closing():
            raise ClientGone
        self._channel.write(chunk, datatype)
        for valve in (self._window_valve, self._socket_valve):
            if not valve.is_open:
                await self._within_patience(valve.wait)

    async def _within_patience(self, wait: Callable[[], Awaitable[object]]) -> None:
        try:
            async with asyncio.timeout(self._settings.idle_s_max):
                await wait()
        except TimeoutError:
            raise ClientGone(f"silent for {self._settings.idle_s_max:.0f} s") from None

    def _take(self) -> bytes:
        taken = self._arrived[0] if len(self._arrived) == 1 else b"".join(self._arrived)
        self._arrived, self._arrived_bytes = [], 0
        if self._channel and not self._gone:
            self._channel.resume_reading()
        return taken

    async def _converse(self) -> None:
        channel = self._channel
        assert channel is not None, "a session starts on a channel"
        git_protocol = channel.get_environment_bytes().get(_GIT_PROTOCOL, b"").decode("ascii", "replace")
        try:
            code = await self._hold(self._command, git_protocol, self)
        except (ClientGone, OutcomeUnknown):
            # No exit code: whatever it was, the client must not take it for an answer.
            channel.abort()
            return
        if not channel.is_closing():
            channel.exit(code)
