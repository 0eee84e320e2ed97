"""The beginnings of packs and the contents of their indexes.

Only what is cheap and useful without inflating anything; packs are checked and written by native git.

Format: https://git-scm.com/docs/gitformat-pack
"""

from bisect import bisect_left
from collections.abc import Iterator
from heapq import nlargest

from mainstay.foundation.errors import Invalid
from mainstay.git.objectnames import Oid

HEADER_BYTES = 12

_PACK_MAGIC = b"PACK"
_PACK_VERSION = 2
_INDEX_MAGIC = b"\xfftOc\x00\x00\x00\x02"
_FANOUT_START = len(_INDEX_MAGIC)
_OIDS_START = _FANOUT_START + 256 * 4
_OID_BYTES = 20
_TRAILER_BYTES = 40
_ENTRY_BYTES = _OID_BYTES + 4 + 4


_IS_LARGE = 1 << 31
_WHOLE_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}


class NotAPack(Invalid):
    """The bytes are not the beginning of a pack that we can store."""


class NotAPackIndex(Invalid):
    """The bytes are not a pack index of version 2."""


def object_count(header: bytes, *, objects_max: int | None = None) -> int:
    """The number of objects that the first 12 bytes of a pack announce. Raises `NotAPack`."""
    if len(header) < HEADER_BYTES or not header.startswith(_PACK_MAGIC):
        raise NotAPack(f"a pack starts with 'PACK', not with {header[:4]!r}")
    version = int.from_bytes(header[4:8])
    if version != _PACK_VERSION:
        raise NotAPack(f"pack version {version} is not supported")
    count = int.from_bytes(header[8:12])
    if objects_max is not None and count > objects_max:
        raise NotAPack(f"the pack announces {count} objects; {objects_max} are allowed")
    return count


class PackIndex:
    """A pack index of version 2, read in place from bytes or from a mapped file's memory."""

    def __init__(self, content: bytes | memoryview) -> None:
        self._content = memoryview(content)
        self.count = self._checked_count()

    def _checked_count(self) -> int:
        content = self._content
        if len(content) < _OIDS_START + _TRAILER_BYTES or content[:_FANOUT_START] != _INDEX_MAGIC:
            raise NotAPackIndex("not a pack index of version 2")
        steps = [self._number(_FANOUT_START + 4 * first) for first in range(256)]
        if steps != sorted(steps):
            raise NotAPackIndex("the fan-out table of the pack index is not ascending")
        least = _OIDS_START + steps[-1] * _ENTRY_BYTES + _TRAILER_BYTES
        if not least <= len(content) <= least + steps[-1] * 8:
            raise NotAPackIndex(f"a pack index of {steps[-1]} objects cannot have {len(content)} bytes")
        return steps[-1]

    def _number(self, at: int) -> int:
        return int.from_bytes(self._content[at : at + 4])

    def _raw(self, number: int) -> bytes:
        at = _OIDS_START + number * _OID_BYTES
        return bytes(self._content[at : at + _OID_BYTES])

    def oids(self) -> Iterator[Oid]:
        """All object names in order."""
        return (Oid(self._raw(number).hex()) for number in range(self.count))

    def __contains__(self, oid: Oid) -> bool:
        return self._place_of(oid) is not None

    def offset_of(self, oid: Oid) -> int | None:
        """Where the object begins in the pack, or None when it is not in it."""
        at = self._place_of(oid)
        return None if at is None else self._offset(at)

    def start_of_last(self, count: int) -> int:
        """Where the last `count` objects of the pack begin; far beyond its end when that is none."""
        if count <= 0:
            return 1 << 64
        return nlargest(count, (self._offset(at) for at in range(self.count)))[-1]

    def _offset(self, at: int) -> int:
        small = self._number(_OIDS_START + self.count * (_OID_BYTES + 4) + 4 * at)
        if not small & _IS_LARGE:
            return small
        large = _OIDS_START + self.count * _ENTRY_BYTES + 8 * (small & ~_IS_LARGE)
        return int.from_bytes(self._content[large : large + 8])

    def _place_of(self, oid: Oid) -> int | None:
        wanted = bytes.fromhex(oid)
        first = wanted[0]
        low = self._number(_FANOUT_START + 4 * (first - 1)) if first else 0
        high = self._number(_FANOUT_START + 4 * first)
        at = bisect_left(range(self.count), wanted, lo=low, hi=high, key=self._raw)
        return at if at < high and self._raw(at) == wanted else None


def whole_kind(first_byte: int) -> str | None:
    """The kind of an object from the first byte of its entry in a pack; None for a delta."""
    return _WHOLE_KINDS.get((first_byte >> 4) & 7)
