"""What a pusher hears: progress and remarks on band 2, signs of life, and the report at the end.

`ok` stands in the report only for refs that the ledger has moved, `ng` only for those it has not. When that
is not known there is no report at all: the connection ends, and the same push again tells.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from mainstay.git.objectnames import RefName
from mainstay.git.protocol import sideband
from mainstay.git.protocol.report import RefResult, report
from mainstay.repository.streams import ByteSink

_SIGN_OF_LIFE = b"0005\x01"
"""An empty packet on band 1, as git's own receive.keepAlive sends it."""
_TAIL_BYTES = 4000


class Reporter:
    """Writes to one pusher; several tasks may speak, a packet is never torn."""

    def __init__(self, sink: ByteSink, capabilities: frozenset[bytes], *, keepalive_s: float) -> None:
        self._sink = sink
        self._bands = b"side-band-64k" in capabilities
        self._quiet = b"quiet" in capabilities
        self._capabilities = capabilities
        self._keepalive_s = keepalive_s
        self._lock = asyncio.Lock()
        self._sent_everything = asyncio.Event()
        self.has_spoken = False

    def client_has_sent_everything(self) -> None:
        """From here on silence would be ours, so signs of life may be sent."""
        self._sent_everything.set()

    async def progress(self, chunk: bytes) -> None:
        if not self._quiet:
            await self._on_band(2, chunk)

    async def say(self, text: str) -> None:
        """A remark that the pusher should see even with --quiet."""
        await self._on_band(2, text.encode() + b"\n")

    async def report(self, unpack_error: str | None, refs: Sequence[RefResult]) -> None:
        """The last words: what became of the pack and of each ref."""
        said = report(refs, capabilities=self._capabilities, unpack_error=unpack_error)
        async with self._lock:
            await self._sink.write(said)

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Send signs of life while the block runs."""
        task = asyncio.create_task(self._signs_of_life())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _signs_of_life(self) -> None:
        if not self._bands:
            return
        await self._sent_everything.wait()
        while True:
            await asyncio.sleep(self._keepalive_s)
            async with self._lock:
                self.has_spoken = True
                await self._sink.write(_SIGN_OF_LIFE)

    async def _on_band(self, band: int, data: bytes) -> None:
        if self._bands and data:
            async with self._lock:
                self.has_spoken = True
                await self._sink.write(sideband.frames(band, data))


class Complaints:
    """What a git process writes to its standard error: passed on as progress, its last words kept."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._tail = b""

    async def follow(self, stderr: asyncio.StreamReader) -> None:
        while chunk := await stderr.read(4096):
            await self.hear(chunk)

    async def hear(self, chunk: bytes) -> None:
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        await self._reporter.progress(chunk)

    @property
    def last(self) -> str:
        """The line that says what went wrong, such as `early EOF`, without git's prefixes."""
        lines = self._tail.decode("utf-8", "replace").replace("\r", "\n").splitlines()
        spoken = [line for line in lines if line.startswith(("fatal: ", "error: "))]
        return spoken[-1].partition(": ")[2] if spoken else ""


def in_order(names: Sequence[RefName], refused: Mapping[RefName, str]) -> list[RefResult]:
    """What became of each ref of a push, in the order of the commands."""
    return [RefResult(name, refused.get(name)) for name in names]
