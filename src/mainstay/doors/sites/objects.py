"""Objects on the line: their bytes and then the SHA-256 of what was sent, and lists of them.

Small ones come many at once: a line `SIZE KEY`, the bytes, their SHA-256; or `- KEY`, there is none; or
`+ KEY`, too large for this. A list, and such an answer, ends with a line that says how many it has, so that
nobody takes a part of it for the whole.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Final

from mainstay.doors.sites.answers import Answer
from mainstay.doors.sites.settings import SitesSettings
from mainstay.foundation.errors import Invalid
from mainstay.repository.threads import Threads
from mainstay.storage.feed.classes import UnknownClass, class_of
from mainstay.storage.objects import NoSuchObject, ObjectStore, StoredObject
from mainstay.storage.objects.keys import checked_prefix

SUM_BYTES: Final = 32
_RANGE: Final = re.compile(rb"bytes=([0-9]{1,18})-([0-9]{1,18})?\Z")


class BadRange(Invalid):
    """The range cannot be read, or begins behind the end of the object."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of an object: from `start` up to `end`, which is not in it."""

    start: int
    end: int
    size_bytes: int

    @property
    def length(self) -> int:
        return self.end - self.start


def stretch_of(header: bytes | None, size_bytes: int) -> Stretch:
    """What is asked for. Raises `BadRange`."""
    if header is None:
        return Stretch(0, size_bytes, size_bytes)
    found = _RANGE.match(header)
    if found is None:
        raise BadRange("a range is bytes=FIRST- or bytes=FIRST-LAST")
    start = int(found[1])
    end = min(size_bytes, int(found[2]) + 1) if found[2] else size_bytes
    if size_bytes == start == 0:
        return Stretch(0, 0, 0)
    if start >= size_bytes or end <= start:
        raise BadRange(f"the object has {size_bytes} bytes, nothing from {start} on")
    return Stretch(start, end, size_bytes)


class ObjectsForSites:
    """Reads the store in threads, a piece at a time."""

    def __init__(self, objects: ObjectStore, settings: SitesSettings, threads: Threads) -> None:
        self._objects = objects
        self._settings = settings
        self._threads = threads

    async def send(self, key: str, asked: bytes | None, answer: Answer) -> None:
        """Raises `NoSuchObject`, `Unavailable`, `BadRange` before the first byte."""
        size_bytes = await self._threads.run(self._size_bytes, key)
        stretch = stretch_of(asked, size_bytes)
        first = await self._threads.run(self._piece, key, stretch.start, stretch.end)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % (stretch.length + SUM_BYTES)),
            (b"x-mainstay-size", b"%d" % size_bytes),
        ]
        await answer.begin(206 if asked else 200, headers)
        total, at, piece = sha256(), stretch.start, first
        while piece:
            await self._threads.run(total.update, piece)
            await answer.piece(piece)
            at += len(piece)
            piece = await self._threads.run(self._piece, key, at, stretch.end)
        if at != stretch.end:
            raise ObjectChanged(f"object {key!r} ended at {at} of {stretch.end}")
        await answer.piece(total.digest(), is_last=True)

    async def send_bundle(self, keys: Sequence[str], answer: Answer) -> None:
        """Several small objects. Raises `Unavailable` before the first of them."""
        few = max(1, self._settings.piece_bytes // self._settings.bundled_bytes_max)
        parts = [keys[start : start + few] for start in range(0, len(keys), few)]
        pieces = await self._threads.run(self._bundled, parts[0])
        await answer.begin(200, [(b"content-type", b"application/octet-stream")])
        for part in parts[1:]:
            await answer.piece(b"".join(pieces))
            pieces = await self._threads.run(self._bundled, part)
        await answer.piece(b"".join([*pieces, b"end %d\n" % len(keys)]), is_last=True)

    async def send_list(self, prefix: str, answer: Answer) -> None:
        """Lines `SIZE KEY`, and `end COUNT`. Raises `Invalid`, `Unavailable` before the first."""
        found = self._listed(checked_prefix(prefix))
        lines, count = await self._next(found), 0
        await answer.begin(200, [(b"content-type", b"text/plain")])
        while lines:
            count += len(lines)
            await answer.piece(b"".join(lines))
            lines = await self._next(found)
        await answer.piece(b"end %d\n" % count, is_last=True)

    def _bundled(self, keys: Sequence[str]) -> list[bytes]:
        pieces = []
        for key in keys:
            try:
                size_bytes = self._size_bytes(key)
                is_small = size_bytes <= self._settings.bundled_bytes_max
                content = self._objects.get_bytes(key) if is_small else b""
            except NoSuchObject:
                pieces.append(f"- {key}\n".encode())
                continue
            if is_small:
                pieces += [f"{len(content)} {key}\n".encode(), content, sha256(content).digest()]
            else:
                pieces.append(f"+ {key}\n".encode())
        return pieces

    def _size_bytes(self, key: str) -> int:
        try:
            class_of(key)
        except UnknownClass:
            raise NoSuchObject(f"object {key!r} is not in the store") from None
        found = self._objects.size_bytes(key)
        if found is None:
            raise NoSuchObject(f"object {key!r} is not in the store")
        return found

    def _piece(self, key: str, start: int, end: int) -> bytes:
        length = min(self._settings.piece_bytes, end - start)
        return self._objects.get_bytes(key, start=start, length=length) if length else b""

    def _listed(self, prefix: str) -> Iterator[StoredObject]:
        for stored in self._objects.list(prefix):
            try:
                class_of(stored.key)
            except UnknownClass:
                continue  # nothing of ours, and no replica would know what it is
            yield stored

    async def _next(self, found: Iterator[StoredObject]) -> list[bytes]:
        def taken() -> list[bytes]:
            some = islice(found, self._settings.listed_at_once)
            return [f"{each.size_bytes} {each.key}\n".encode() for each in some]

        return await self._threads.run(taken)


class ObjectChanged(Exception):
    """An object is shorter than it was: the answer is cut, so that nobody takes it for whole."""
