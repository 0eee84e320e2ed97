"""Say something to the person behind a fetch, in the middle of a protocol v2 answer.

The pack travels in a sideband, whose second channel is for people. It opens with the `packfile` section; an
answer without one (refs, "nothing new") has no place for a remark and passes unchanged.
"""

from mainstay.git.protocol import pktline
from mainstay.repository.streams import ByteSink

_SECTION = b"packfile"
_TO_THE_PERSON = b"\x02"
_HEAD_BYTES_MAX = 64 * 1024
"""Sections before the pack are short; where none was found so far, none comes."""


class RemarkedSink:
    """Passes an answer on, with a remark before its pack."""

    def __init__(self, sink: ByteSink, remark: str) -> None:
        self._sink = sink
        self._packet = pktline.encode(_TO_THE_PERSON + remark.encode() + b"\n")
        self._head: bytes | None = b""
        """What came so far, while the section was not found; None afterwards."""

    async def write(self, chunk: bytes) -> None:
        if self._head is None:
            await self._sink.write(chunk)
            return
        sent, self._head = len(self._head), self._head + chunk
        try:
            at = after_section(self._head)
        except pktline.MalformedPkt:
            self._head = None
            await self._sink.write(chunk)
            return
        if at is not None:  # behind all that was sent, because the packet was not whole before
            chunk = self._head[sent:at] + self._packet + self._head[at:]
        if at is not None or len(self._head) > _HEAD_BYTES_MAX:
            self._head = None
        await self._sink.write(chunk)


def from_memory(ago_s: int) -> str:
    """What somebody should know who fetches while the database is away."""
    return f"The database is away: this is what was known {ago_s} s ago. Pushes wait until it is back."


def after_section(head: bytes) -> int | None:
    """Where the packet ends that opens the section; None when it has not come whole."""
    at = 0
    while at + 4 <= len(head):
        length = max(4, pktline.pkt_length(head[at : at + 4]))
        payload = head[at + 4 : at + length]
        at += length
        if at <= len(head) and pktline.text_of(payload) == _SECTION:
            return at
    return None
