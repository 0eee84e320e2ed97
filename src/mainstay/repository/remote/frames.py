"""What travels inside a body between two nodes: frames, each a kind, a length and that many bytes.

A request is PARAMETERS, then DATA, then END. An answer is BEGUN, then DATA, then END or FAILED. ALIVE may
stand anywhere and means nothing but that. The answer to a session has ASIDE between its DATA, for the person
and not for the program, and its exit code in the END. A body that stops before its END was cut: whatever the
HTTP layer makes of that, nobody takes it for whole.

Bytes in, events out; no I/O here. Data is handed on as it comes, so a frame is never held as a whole.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from mainstay.foundation.errors import Invalid

DATA_BYTES_MAX = 1 << 20
"""Of one frame. Senders cut what is longer."""
CONTROL_BYTES_MAX = 4 << 20
"""Of a frame that is kept in memory as a whole, such as the rules of a push."""

_HEAD = struct.Struct(">BI")


class Kind(IntEnum):
    PARAMETERS = 1
    BEGUN = 2
    """The request is admitted; from here on its data may be sent."""
    DATA = 3
    END = 4
    FAILED = 5
    """JSON as in `faults`."""
    ALIVE = 6
    ASIDE = 7


class BadFrame(Invalid):
    """The other end does not speak as agreed."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    body: bytes
    """Of DATA: a piece, not always all of the frame."""


ALIVE = _HEAD.pack(Kind.ALIVE, 0)
END = _HEAD.pack(Kind.END, 0)


def frame(kind: Kind, body: bytes = b"") -> bytes:
    assert len(body) <= (DATA_BYTES_MAX if kind is Kind.DATA else CONTROL_BYTES_MAX), "cut it first"
    return _HEAD.pack(kind, len(body)) + body


def data_frames(chunk: bytes) -> list[bytes]:
    """The chunk as frames of DATA; nothing for nothing."""
    starts = range(0, len(chunk), DATA_BYTES_MAX)
    return [frame(Kind.DATA, chunk[start : start + DATA_BYTES_MAX]) for start in starts]


class FrameReader:
    """Takes the body as it comes and gives its frames. Nothing may follow the end."""

    def __init__(self) -> None:
        self._held = b""
        self._at = 0
        self._data_left = 0
        self.ended = False

    @property
    def is_drained(self) -> bool:
        """Whether all that was fed was given."""
        return self._at == len(self._held)

    def feed(self, chunk: bytes) -> None:
        if self.ended and chunk:
            raise BadFrame("bytes follow the end")
        self._held = chunk if self.is_drained else self._held[self._at :] + chunk
        self._at = 0

    def next(self) -> Frame | None:
        """The next frame, or piece of one; None when more bytes are needed. Raises `BadFrame`."""
        if self._data_left:
            return self._piece()
        if self.ended or len(self._held) - self._at < _HEAD.size:
            return None
        kind, length = _head(*_HEAD.unpack_from(self._held, self._at))
        if kind is Kind.DATA:
            self._at += _HEAD.size
            self._data_left = length
            return self._piece() if length else Frame(kind, b"")
        return self._whole(kind, length)

    def _piece(self) -> Frame | None:
        piece = self._held[self._at : self._at + self._data_left]
        self._at += len(piece)
        self._data_left -= len(piece)
        return Frame(Kind.DATA, piece) if piece else None

    def _whole(self, kind: Kind, length: int) -> Frame | None:
        start = self._at + _HEAD.size
        if len(self._held) < start + length:
            return None
        self._at = start + length
        self.ended = kind in (Kind.END, Kind.FAILED)
        if self.ended and not self.is_drained:
            raise BadFrame("bytes follow the end")
        return Frame(kind, self._held[start : start + length])


def _head(number: int, length: int) -> tuple[Kind, int]:
    try:
        kind = Kind(number)
    except ValueError:
        raise BadFrame(f"there is no frame of kind {number}") from None
    longest = DATA_BYTES_MAX if kind is Kind.DATA else CONTROL_BYTES_MAX
    if length > longest:
        raise BadFrame(f"a frame of {length} bytes is longer than {longest}")
    return kind, length
