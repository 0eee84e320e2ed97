"""The body of a request as a `ByteSource`: plain or gzip, sized or chunked, and never without limits.

Four ways a body can hurt, and what stops each: too large (`bytes_max`, counted after unpacking), too
dense (`_DENSITY_MAX`: packs hardly compress, so a body that grows a hundredfold is a bomb), too silent
(`idle_s_max`), too slow (`bytes_per_s_min` on average). At most one piece of 1 MiB is in memory.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Invalid
from mainstay.repository.streams import ClientGone

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_PIECE_BYTES = 1024 * 1024
_BEGINNING_BYTES = 16 * 1024
_DENSITY_MAX = 100
_DENSITY_FREE_BYTES = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class BodyTooLarge(Invalid):
    """The body is larger than this server takes."""


class BodyTooSlow(Invalid):
    """The client stopped sending, or trickles."""


class BodyBroken(Invalid):
    """The body is not the gzip stream it says it is."""


class UnknownEncoding(Invalid):
    """A Content-Encoding other than gzip."""


class BodyRefused(ClientGone):
    """We stop listening: below, that is as if the client had gone; at the door, `because` is the answer."""

    def __init__(self, because: Invalid) -> None:
        super().__init__(str(because))
        self.because = because


class Body:
    """Reads one request body once, in order."""

    def __init__(
        self,
        receive: Receive,
        *,
        encoding: bytes,
        bytes_max: int,
        idle_s_max: float,
        bytes_per_s_min: int,
        clock: Clock,
    ) -> None:
        self._receive = receive
        self._unpack = _unpacker(encoding)
        self._bytes_max = bytes_max
        self._idle_s_max = idle_s_max
        self._bytes_per_s_min = bytes_per_s_min
        self._clock = clock
        self._started_s = clock.monotonic_s()
        self._early: list[bytes] = []
        self._wire_ended = asyncio.Event()
        self.wire_bytes = 0
        self.plain_bytes = 0

    @property
    def ended(self) -> bool:
        """Whether the client has sent all of it."""
        return self._wire_ended.is_set()

    async def begin(self) -> None:
        """Take in the beginning of the body, or all of a small one, before anything is done for it.

        Who only opens connections and sends nothing keeps nothing but a connection. Raises `BodyTooSlow`,
        `ClientGone`.
        """
        while not self.ended and self.wire_bytes < _BEGINNING_BYTES:
            self._early.append(await self._next_raw())

    async def hang_up(self) -> None:
        """Return when the client has closed the connection; listens once the whole body was read.

        The ASGI server swallows writes to a closed connection without a word, so somebody has to listen
        while a long answer is made.
        """
        await self._wire_ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def drain(self, *, bytes_max: int, seconds_max: float) -> None:
        """Read away what little may be left, so that a refusal is not lost in a reset connection."""
        most = self.wire_bytes + bytes_max
        try:
            async with asyncio.timeout(seconds_max):
                while not self.ended and self.wire_bytes < most:
                    await self._next_raw()
        except (TimeoutError, BodyTooSlow, ClientGone):
            return

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises `ClientGone`, and `BodyRefused`, which is one."""
        try:
            return await self._read()
        except Invalid as error:
            raise BodyRefused(error) from error

    async def _read(self) -> bytes:
        while True:
            piece = self._unpack.take() if self._unpack else b""
            if not piece and self.ended and not self._early:
                if self._unpack:
                    self._unpack.check_complete()
                return b""
            if not piece:
                piece = await self._next()
            if piece:
                self._count(piece)
                return piece

    async def _next(self) -> bytes:
        raw = self._early.pop(0) if self._early else await self._next_raw()
        if self._unpack is None:
            return raw
        self._unpack.give(raw)
        return self._unpack.take()

    async def _next_raw(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_s_max):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow(f"nothing came for {self._idle_s_max:.0f} s in the middle of a body") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        raw: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            self._wire_ended.set()
        self.wire_bytes += len(raw)
        self._check_pace()
        return raw

    def _check_pace(self) -> None:
        elapsed_s = self._clock.monotonic_s() - self._started_s
        if not self.ended and is_too_slow(
            elapsed_s, self.wire_bytes, grace_s=self._idle_s_max, bytes_per_s_min=self._bytes_per_s_min
        ):
            raise BodyTooSlow(f"the body comes slower than {self._bytes_per_s_min} bytes a second")

    def _count(self, piece: bytes) -> None:
        self.plain_bytes += len(piece)
        if self._bytes_max and self.plain_bytes > self._bytes_max:
            raise BodyTooLarge(f"the body is larger than {self._bytes_max} bytes")
        if self._unpack and is_too_dense(self.wire_bytes, self.plain_bytes):
            raise BodyTooLarge(f"the body unpacks to more than {_DENSITY_MAX} times its size")


def is_too_slow(elapsed_s: float, size_bytes: int, *, grace_s: float, bytes_per_s_min: int) -> bool:
    """Judged on the average since the start, so that a pause after a fast beginning is forgiven."""
    return elapsed_s > grace_s and size_bytes < bytes_per_s_min * (elapsed_s - grace_s)


def is_too_dense(wire_bytes: int, plain_bytes: int) -> bool:
    return plain_bytes > _DENSITY_FREE_BYTES + wire_bytes * _DENSITY_MAX


def _unpacker(encoding: bytes) -> "_Gzip | None":
    name = encoding.strip().lower()
    if name in {b"", b"identity"}:
        return None
    if name in {b"gzip", b"x-gzip"}:
        return _Gzip()
    raise UnknownEncoding("the only content encoding taken here is gzip")


class _Gzip:
    """One gzip member, unpacked in bounded pieces."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)
        self._pending = b""
        self._may_hold_output = False

    def give(self, raw: bytes) -> None:
        assert not self._pending, "the last piece was not used up"
        self._pending = raw

    def take(self) -> bytes:
        """The next piece, or b"" when more input is needed."""
        piece = b""
        while not piece and (self._pending or self._may_hold_output):
            piece = self._step()
        return piece

    def _step(self) -> bytes:
        if self._stream.eof:
            raise BodyBroken("bytes follow the end of the gzip stream")
        try:
            piece = self._stream.decompress(self._pending, _PIECE_BYTES)
        except zlib.error as error:
            raise BodyBroken(f"the body is not gzip: {error}") from error
        self._pending = self._stream.unconsumed_tail or self._stream.unused_data
        # A full piece means that zlib may keep output of input it has already swallowed.
        self._may_hold_output = len(piece) == _PIECE_BYTES and not self._stream.eof
        return piece

    def check_complete(self) -> None:
        if not self._stream.eof:
            raise BodyBroken("the gzip stream ends too early")
