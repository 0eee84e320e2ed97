"""A wide pipe out of a child process.

The kernel's usual pipe holds 64 KiB, and asyncio's stream copies each piece once more: for a clone of 100 MB
that is thousands of turns of the event loop. This one holds 1 MiB and hands over what it holds.
"""

import asyncio
import contextlib
import fcntl
import os
from types import TracebackType
from typing import Self

_WIDTH_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18


class WidePipe:
    """Both ends; the child gets `write_end`. A context manager that closes what is open."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        with contextlib.suppress(PermissionError):  # the user's share of wide pipes is used up: stay narrow
            fcntl.fcntl(self._read_end, fcntl.F_SETPIPE_SZ, _WIDTH_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close_write_end()
        os.close(self._read_end)

    def close_write_end(self) -> None:
        """Let go of the child's end once the child has it, so that its end is our end of file."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    async def read(self) -> bytes:
        """The next bytes, or b"" when the child and its children have closed their end."""
        while True:
            try:
                return os.read(self._read_end, _CHUNK_BYTES)
            except BlockingIOError:
                await _until_readable(self._read_end)


async def _until_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()

    def tell() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(descriptor, tell)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)
