"""Packet lines: the frames of the Git protocol.

Four hexadecimal digits announce the length of a packet, themselves included; 0, 1 and 2 are marks
without payload. `PktReader` takes bytes in any portions and gives packets.

Format: https://git-scm.com/docs/protocol-common (pkt-line format), https://git-scm.com/docs/protocol-v2
"""

from binascii import Error as NotHex
from binascii import unhexlify
from typing import Final

from mainstay.foundation.errors import Invalid

FLUSH: Final = b"0000"
DELIM: Final = b"0001"
RESPONSE_END: Final = b"0002"

PACKET_BYTES_MAX = 65520
"""The largest packet, its four digits included. Git itself reads three bytes more."""
PAYLOAD_BYTES_MAX = PACKET_BYTES_MAX - 4

_PREFIX_BYTES = 4


class MalformedPkt(Invalid):
    """The bytes are not packet lines."""


class Flush:
    """`0000`: the end of a message."""


class Delim:
    """`0001`: the border between two parts of a message."""


class ResponseEnd:
    """`0002`: the end of a response without state."""


Mark = Flush | Delim | ResponseEnd
_MARKS: Final[tuple[Mark, ...]] = (Flush(), Delim(), ResponseEnd())


def encode(payload: bytes) -> bytes:
    """One packet with `payload`, which is at most `PAYLOAD_BYTES_MAX` long."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"{len(payload)} bytes do not fit into one packet")
    return b"%04x%s" % (len(payload) + _PREFIX_BYTES, payload)


def pkt_length(prefix: bytes) -> int:
    r"""Return the length that four hexadecimal digits announce: 0, 1 and 2 for the marks, or 4 to 65520.

    Stricter than `int(prefix, 16)`, which also takes b"-001", b" 1  ", b"0x1f", b"1_00" and b"988\n": a
    negative length would turn the next read into "read everything". `unhexlify` takes hexadecimal digits
    only, of either case, as git does.
    """
    try:
        length = int.from_bytes(unhexlify(prefix))
    except NotHex:
        raise MalformedPkt(f"{prefix[:8]!r} is not a packet length") from None
    if len(prefix) != _PREFIX_BYTES or length == len(_MARKS) or length > PACKET_BYTES_MAX:
        raise MalformedPkt(f"{prefix[:8]!r} is not a packet length")
    return length


def text_of(payload: bytes) -> bytes:
    """The line in a packet: without the one line feed that a sender may add."""
    return payload[:-1] if payload.endswith(b"\n") else payload


class PktReader:
    """Bytes in, packets out. Holds what was fed and not yet taken, so feed it moderately."""

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0

    def feed(self, data: bytes) -> None:
        """Add bytes that came."""
        if self._position == len(self._buffer):
            self._buffer = bytes(data)
        else:
            self._buffer = self._buffer[self._position :] + data
        self._position = 0

    def next(self) -> bytes | Flush | Delim | ResponseEnd | None:
        """The next payload or mark, or None when more bytes are needed. Raises `MalformedPkt`.

        An empty packet (`0004`) is an empty payload, not None.
        """
        start = self._position + _PREFIX_BYTES
        prefix = self._buffer[self._position : start]
        if len(prefix) < _PREFIX_BYTES:
            return None
        length = pkt_length(prefix)
        if length < _PREFIX_BYTES:
            self._position = start
            return _MARKS[length]
        end = self._position + length
        if end > len(self._buffer):
            return None
        self._position = end
        return self._buffer[start:end]

    @property
    def held_bytes(self) -> int:
        """How many fed bytes were not taken yet."""
        return len(self._buffer) - self._position

    def take_rest(self) -> bytes:
        """Take all bytes that were not read as packets, such as the pack after the commands of a push."""
        rest = self._buffer[self._position :]
        self._buffer, self._position = b"", 0
        return rest
