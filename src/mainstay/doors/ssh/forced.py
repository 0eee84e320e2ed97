"""The same conversation over standard input and output: for sites that keep OpenSSH in front.

sshd has checked the key and runs us as the forced command of that key (`mainstay ssh serve`); the command of
the client comes beside us. Whether the key is still good is asked again, here as everywhere.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mainstay.doors.ssh.conversation import EXIT_REFUSED, Asked, Conversations, Elsewhere
from mainstay.doors.ssh.settings import SshSettings
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import OutcomeUnknown
from mainstay.ops.maintenance.lookout import Lookout
from mainstay.product.projects.admission import GitGate
from mainstay.repository.face import GitFace
from mainstay.repository.holding import Waiting
from mainstay.repository.streams import ClientGone

_PIECE_BYTES = 256 * 1024


async def serve_forced(
    asked: Asked,
    *,
    service: GitFace,
    gate: GitGate,
    settings: SshSettings,
    clock: Clock,
    clone_url: Callable[[str], str],
    maintenance: Lookout | None = None,
    elsewhere: Elsewhere | None = None,
) -> int:
    """Hold one conversation and return the exit code of the process; on a replica perhaps `elsewhere`."""
    line = await _StandardLine.open(idle_s_max=settings.idle_s_max)
    with ThreadPoolExecutor(1, thread_name_prefix="ssh-gate") as threads:
        conversations = Conversations(
            service=service,
            gate=gate,
            threads=threads,
            clock=clock,
            clone_url=clone_url,
            waiting=Waiting(hold_s=settings.hold_s, waiting_max=settings.held_max),
            maintenance=maintenance,
            held_max=settings.held_max,
            elsewhere=elsewhere,
        )
        try:
            code = await conversations.hold(asked, line)
            await line.flush()
        except (ClientGone, OutcomeUnknown):
            return EXIT_REFUSED
        finally:
            await service.finish()
    return code


class _StandardLine:
    """Implements `conversation.Line` over the pipes that sshd gave us."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, idle_s_max: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._idle_s_max = idle_s_max

    @classmethod
    async def open(cls, *, idle_s_max: float) -> "_StandardLine":
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_PIECE_BYTES)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), sys.stdout.buffer
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        return cls(reader, writer, idle_s_max=idle_s_max)

    async def read(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_s_max):
                return await self._reader.read(_PIECE_BYTES)
        except TimeoutError:
            raise ClientGone from None

    async def write(self, chunk: bytes) -> None:
        self._writer.write(chunk)
        await self._drain()

    async def complain(self, text: str) -> None:
        """Write one line, which fits the pipe to sshd whether it reads now or later."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    async def flush(self) -> None:
        """Wait until sshd has taken everything: the process ends next."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._idle_s_max):
                await self._writer.wait_closed()
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            raise ClientGone from None

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._idle_s_max):
                await self._writer.drain()
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            raise ClientGone from None
