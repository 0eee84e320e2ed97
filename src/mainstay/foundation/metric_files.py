"""The files in which the processes of a node count, safe on a disk that is full.

prometheus_client counts in files that are mapped into memory. It makes them without their blocks, so that on
a full disk the kernel ends the process (SIGBUS) at some later number. Here a file gets its blocks when it is
made or grows; where there are none, the process counts on in its own memory, and only its numbers are missing
where all are shown together.
"""

import mmap
import os
import sys

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

_BYTES = 128 << 10
_ENTRY_BYTES_MAX = 64
"""Of an entry, besides its key."""
_USED_AT_FIRST = 8


class AllocatedDict(MmapedDict):
    """A `MmapedDict` that never writes where the disk has no block for it."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._is_private = False
        try:
            _extend(filename, _BYTES)
        except OSError:
            self._begin_in_memory()
        else:
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call] # the library's

    def _begin_in_memory(self) -> None:
        self._is_private = True
        self._f = open(os.devnull, "rb")  # noqa: PTH123, SIM115 - closed by `close`
        self._fname = ""
        self._capacity = _BYTES
        self._m = mmap.mmap(-1, _BYTES)
        self._positions: dict[str, int] = {}
        self._used = _USED_AT_FIRST
        self._m[:4] = self._used.to_bytes(4, sys.byteorder)

    def _init_value(self, key: str) -> None:
        needed = self._used + len(key.encode()) + _ENTRY_BYTES_MAX
        while needed > self._capacity:
            self._grow(self._capacity * 2)
        super()._init_value(key)  # type: ignore[no-untyped-call] # the library's

    def _grow(self, capacity: int) -> None:
        if not self._is_private:
            try:
                _extend(self._fname, capacity)
                self._m, self._capacity = mmap.mmap(self._f.fileno(), capacity), capacity
            except OSError:
                self._is_private = True
            else:
                return
        grown = mmap.mmap(-1, capacity)
        grown[: self._used] = self._m[: self._used]
        self._m, self._capacity = grown, capacity


def _extend(filename: str, size_bytes: int) -> None:
    """Make the file so large, with blocks for all of it. A file that has no room vanishes again."""
    with open(filename, "ab", buffering=0) as stream:  # noqa: PTH123 - a path of the library
        before = os.fstat(stream.fileno()).st_size
        try:
            while (missing := size_bytes - os.fstat(stream.fileno()).st_size) > 0:
                stream.write(bytes(missing))
        except OSError:
            # Who reads it must not find half of what was added, or an empty file.
            stream.truncate(before)
            if not before:
                os.unlink(filename)  # noqa: PTH108 - same
            raise


def install() -> None:
    """For all numbers that are made from now on."""
    setattr(values, "MmapedDict", AllocatedDict)  # noqa: B010 - the library does not export it
