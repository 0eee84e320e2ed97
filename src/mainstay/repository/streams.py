"""The two ends of a conversation with a Git client, whatever carries it."""

from typing import Protocol


class ByteSource(Protocol):
    async def read(self) -> bytes:
        """Return the next bytes, at most 1 MiB, or b"" at the end.

        Raises `ClientGone` when the client went away in the middle, `Invalid` for an undecodable body.
        """
        ...


class ByteSink(Protocol):
    async def write(self, chunk: bytes) -> None:
        """Send bytes and wait until the transport can take more. Raises `ClientGone`."""
        ...


class ClientGone(Exception):
    """The client closed the connection: stop, clean up, answer nobody."""
