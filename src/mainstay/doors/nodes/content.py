"""Questions and additions of other nodes: blocking work in threads, its answer on the wire as it comes."""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.repository.face import ContentFace
from mainstay.repository.questions import Addition, Question
from mainstay.repository.remote.questions import facts_of_refused
from mainstay.repository.streams import ByteSink, ByteSource, ClientGone
from mainstay.repository.threads import Threads


class AdditionTooLarge(Invalid):
    """A node brings more at once than is taken without a push."""


class DiskRefuses(Unavailable):
    """An addition could not be laid out on this node's disk."""


class ContentForNodes:
    """What this process does for others with the objects of repositories."""

    def __init__(
        self, content: ContentFace, *, scratch: Path, threads: int = 16, addition_bytes_max: int = 1 << 30
    ) -> None:
        self._content = content
        self._scratch = scratch
        self._threads = Threads(threads)
        self._addition_bytes_max = addition_bytes_max

    async def ask(self, repository_id: int, question: Question, sink: ByteSink) -> None:
        """Write the answer. Of one repository a few are answered at a time."""
        telling = _Telling(sink)
        try:
            await self._threads.run_few(
                repository_id, self._content.ask, repository_id, question, hear=telling.hear
            )
        finally:
            telling.stop()

    async def add(self, addition: Addition, source: ByteSource, sink: ByteSink) -> None:
        """Take the objects to the end, then commit, whether or not the caller stays to hear of it."""
        with TemporaryFile(dir=self._scratch) as pack:
            await self._take(source, pack)
            refused = await self._threads.run_to_the_end(self._content.add, addition, pack)
        await sink.write(json.dumps(facts_of_refused(refused)).encode())

    def close(self) -> None:
        self._threads.close()

    async def _take(self, source: ByteSource, pack: BinaryIO) -> None:
        taken_bytes = 0
        while piece := await source.read():
            taken_bytes += len(piece)
            if taken_bytes > self._addition_bytes_max:
                raise AdditionTooLarge(f"more than {self._addition_bytes_max} bytes are added by a push only")
            await self._threads.run(_lay_out, pack, piece)
        pack.seek(0)


class _Telling:
    """A sink of the event loop, for a thread: each piece waits until the connection can take more."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._stopped = False

    def hear(self, piece: bytes) -> None:
        """Called in a thread. Raises `ClientGone` when nobody listens any more, which ends git."""
        if self._stopped:
            raise ClientGone
        asyncio.run_coroutine_threadsafe(self._write(piece), self._loop).result()

    def stop(self) -> None:
        self._stopped = True

    async def _write(self, piece: bytes) -> None:
        await self._sink.write(piece)


def _lay_out(pack: BinaryIO, piece: bytes) -> None:
    try:
        pack.write(piece)
        pack.flush()
    except OSError as refused:
        raise DiskRefuses(f"this node cannot take the objects now: {refused.strerror}") from refused
