"""Answers to fetches that are asked again and again, as a herd of CI jobs does.

The second time within a minute that somebody asks for exactly the same pack, it is made into a file, once;
everybody who asks meanwhile reads along while it grows, and whoever comes later reads the file. Making it
depends on no client: it goes on while anybody reads.

An answer is a function of the request: the same wants, haves and depth lead to objects that never change.
Whether the client may want them is checked for every request, before this is asked.
"""

import asyncio
import os
import shutil
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from mainstay.cache.room import is_full
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.ids import new_ulid

Write = Callable[[bytes], Awaitable[None]]
Make = Callable[[Write], Awaitable[str | None]]
"""Makes an answer through the given `write`; returns why it failed, or None."""

_CHUNK_BYTES = 1 << 18
_ASKED_KEPT = 10_000
_REPEATED_WITHIN_S = 60.0
_KEPT_S_MAX = 300.0
_KEPT_MAX = 256
"""Each answer that is kept is an open file."""


class Responses:
    """The answers kept by one process. Its files may be deleted at any time."""

    def __init__(self, directory: Path, *, size_bytes_max: int, clock: Clock) -> None:
        self._directory = directory / str(os.getpid())
        self._size_bytes_max = size_bytes_max
        self._clock = clock
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._kept: OrderedDict[str, _Growing] = OrderedDict()
        _remove_those_of_the_dead(directory)

    def is_repeated(self, key: str) -> bool:
        """Whether this was asked within the last minute; remembers that it is asked now."""
        now_s = self._clock.monotonic_s()
        before_s = self._asked.pop(key, None)
        self._asked[key] = now_s
        while len(self._asked) > _ASKED_KEPT:
            self._asked.popitem(last=False)
        return key in self._kept or (before_s is not None and now_s - before_s <= _REPEATED_WITHIN_S)

    async def serve(self, key: str, make: Make, write: Write) -> str | None:
        """Write the answer, from the file or while it is made. Returns why it failed, or None.

        A failure before the first byte leaves nothing behind, so the caller may try another way.
        """
        growing = self._kept.get(key)
        if growing is not None and not growing.readers and growing.began_s < self._oldest_s():
            growing.drop()
        if growing is None or not growing.is_readable():
            try:
                growing = self._begin(key, make)
            except OSError as error:
                return f"no answer can be kept: {error}"
        self._kept.move_to_end(key)
        try:
            return await growing.copy_to(write)
        finally:
            if not growing.is_readable() and self._kept.get(key) is growing:
                del self._kept[key]
            self._shrink()

    def close(self) -> None:
        for growing in self._kept.values():
            growing.drop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _begin(self, key: str, make: Make) -> "_Growing":
        self._directory.mkdir(parents=True, exist_ok=True)
        growing = _Growing(self._directory / new_ulid(), began_s=self._clock.monotonic_s())
        growing.start(make)
        self._kept[key] = growing
        return growing

    def _oldest_s(self) -> float:
        """Older answers are made anew: what is wrong with one does not stay wrong."""
        return self._clock.monotonic_s() - _KEPT_S_MAX

    def _shrink(self) -> None:
        """Forget what was asked for longest ago until the rest fits. Readers keep their open files."""
        total = sum(growing.size_bytes for growing in self._kept.values())
        for key in list(self._kept):
            if total <= self._size_bytes_max and len(self._kept) <= _KEPT_MAX:
                return
            if not self._kept[key].readers:
                gone = self._kept.pop(key)
                total -= gone.size_bytes
                gone.drop()


def _remove_those_of_the_dead(directory: Path) -> None:
    """Delete what processes left that are no more; each has a directory named by its process id."""
    if not directory.exists():
        return
    for entry in directory.iterdir():
        if not Path("/proc", entry.name).exists() or entry.name == str(os.getpid()):
            shutil.rmtree(entry, ignore_errors=True)


def key_of(*parts: bytes) -> str:
    """One name for a request; each part is hashed by itself, so that none can run into the next."""
    return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()


class _Growing:
    """One answer in a file, being made or complete.

    On a full disk it is kept no longer: what all readers have is cut off, and the rest passes through.
    """

    def __init__(self, path: Path, *, began_s: float) -> None:
        self._path = path
        self.began_s = began_s
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size_bytes = 0
        self._cut_bytes = 0
        """How much is no longer in the file."""
        self._passing = False
        self._positions: Counter[int] = Counter()
        self._failed: str | None = None
        self._grown = asyncio.Condition()
        self._making: asyncio.Task[None] | None = None

    def start(self, make: Make) -> None:
        self._making = asyncio.create_task(self._make(make))

    def is_readable(self) -> bool:
        """A failed one is not, nor one that was given up: its last reader left, or the disk is full."""
        return self._failed is None and self._descriptor >= 0 and not self._passing

    @property
    def readers(self) -> int:
        return self._positions.total()

    async def copy_to(self, write: Write) -> str | None:
        """Write everything there is and will be. The last reader to leave early ends the making, and the
        last of a failed one closes the file.
        """
        at = 0
        self._positions[at] += 1
        try:
            while not await self._is_over(at):
                wanted = min(_CHUNK_BYTES, self.size_bytes - at)
                chunk = os.pread(self._descriptor, wanted, at - self._cut_bytes)
                await write(chunk)
                self._leave(at)
                at += len(chunk)
                self._positions[at] += 1
                if self._passing:
                    await self._notify()
            return self._failed
        finally:
            self._leave(at)
            if not self.readers and self._making is not None:
                self._failed = "its last reader left"
            if not self.readers and (self._failed is not None or self._passing):
                self.drop()
            elif self._passing:
                await self._notify()

    def _leave(self, at: int) -> None:
        self._positions[at] -= 1
        if not self._positions[at]:
            del self._positions[at]

    def drop(self) -> None:
        """Delete the file. Only when nobody reads it."""
        if self._making is not None:
            self._making.cancel()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._path.unlink(missing_ok=True)

    async def _is_over(self, at: int) -> bool:
        """Wait until there is more than `at`, or until there will be no more."""
        async with self._grown:
            await self._grown.wait_for(lambda: self.size_bytes > at or self._making is None)
        return self.size_bytes <= at

    async def _make(self, make: Make) -> None:
        failed: str | None = "its last reader left"
        try:
            failed = await make(self._append)
        except (MainstayError, OSError) as error:
            failed = str(error)
        finally:
            self._making = None
            self._failed = failed
            await self._notify()

    async def _append(self, chunk: bytes) -> None:
        try:
            self._write(chunk)
        except OSError as full:
            if not is_full(full):
                raise
            await self._cut_off()
            self._write(chunk)
        self.size_bytes += len(chunk)
        await self._notify()

    def _write(self, chunk: bytes) -> None:
        written, at = 0, self.size_bytes - self._cut_bytes
        while written < len(chunk):
            written += os.pwrite(self._descriptor, memoryview(chunk)[written:], at + written)

    async def _cut_off(self) -> None:
        """Give the room back that the answer takes, when all readers have what there is of it."""
        self._passing = True
        async with self._grown:
            await self._grown.wait_for(lambda: self._positions[self.size_bytes] == self.readers)
        os.ftruncate(self._descriptor, 0)
        self._cut_bytes = self.size_bytes

    async def _notify(self) -> None:
        async with self._grown:
            self._grown.notify_all()
