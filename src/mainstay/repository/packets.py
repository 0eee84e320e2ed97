"""Requests out of a byte source, whether anything went out to a sink, and how a fetch says it failed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from mainstay.foundation.errors import Invalid, MainstayError
from mainstay.git.protocol import v0, v2
from mainstay.git.protocol.report import error_packet
from mainstay.repository.streams import ByteSink, ByteSource

_SMALL_BYTES = 1024

log = structlog.get_logger()


class CutOff(Exception):
    """The client ended in the middle of a request: there is nobody to answer."""


class RequestsV2:
    """Protocol v2 requests, one after another."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._reader = v2.RequestReader()

    async def next(self) -> v2.Request | None:
        """The next request, or None when the client ended between requests. Raises `CutOff`, `Invalid`."""
        while (request := self._reader.next()) is None:
            chunk = await self._source.read()
            if not chunk:
                if self._reader.is_between_requests:
                    return None
                raise CutOff
            if len(chunk) <= _SMALL_BYTES and self._reader.is_between_requests:
                request = v2.whole_request(chunk)
            if request is not None:
                return request
            self._reader.feed(chunk)
        return request


class WantsV0:
    """The wants of protocol v0, and the bytes after them."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._reader = v0.WantReader()

    async def wants(self) -> v0.WantRequest | None:
        """What the client wants, or None when it wants nothing. Raises `CutOff`, `Invalid`."""
        request = None
        while request is None:
            chunk = await self._source.read()
            if not chunk:
                if self._reader.is_untouched:
                    return None
                raise CutOff
            request = self._reader.feed(chunk)
        return request if request.wants else None

    async def read(self) -> bytes:
        """Bytes after the wants: what was read ahead first."""
        return self._reader.take_rest() or await self._source.read()


class NotedSink:
    """A sink that remembers whether anything went out: until then an error may still be a status."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self.bytes_written = 0

    async def write(self, chunk: bytes) -> None:
        self.bytes_written += len(chunk)
        await self._sink.write(chunk)


@asynccontextmanager
async def failures_told(sink: NotedSink, *, repository_id: int) -> AsyncIterator[None]:
    """Say in the protocol what goes wrong in the block; raise it while it may still be a status."""
    try:
        yield
    except CutOff:
        log.info("fetch.cut_off", repository_id=repository_id)
    except Invalid as wrong:
        await sink.write(error_packet(f"upload-pack: {wrong}"))
    except MainstayError as failed:
        if not sink.bytes_written:
            raise
        await sink.write(error_packet(str(failed)))
