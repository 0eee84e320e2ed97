"""The answer to a push: did the pack unpack, and what became of each ref.

Format: https://git-scm.com/docs/pack-protocol (report status)
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mainstay.git.objectnames import RefName
from mainstay.git.protocol import sideband
from mainstay.git.protocol.pktline import FLUSH, encode

_REASON_BYTES_MAX = 1000


@dataclass(frozen=True, slots=True)
class RefResult:
    """What became of a ref. `refused` is None when it moved, else why it did not."""

    name: RefName
    refused: str | None = None


def report(
    results: Iterable[RefResult], *, capabilities: Collection[bytes], unpack_error: str | None = None
) -> bytes:
    """The end of a push, ready to send: the report as negotiated, and the flush that closes side bands.

    A client that asked for no report gets none, only that flush if it uses side bands.
    """
    said = b""
    if b"report-status" in capabilities or b"report-status-v2" in capabilities:
        said = _lines(results, unpack_error)
    if b"side-band-64k" not in capabilities:
        return said
    return sideband.frames(sideband.DATA, said) + FLUSH


def _lines(results: Iterable[RefResult], unpack_error: str | None) -> bytes:
    lines = [encode(b"unpack %s\n" % (b"ok" if unpack_error is None else one_line(unpack_error)))]
    for result in results:
        if result.refused is None:
            lines.append(encode(b"ok %s\n" % result.name))
        else:
            lines.append(encode(b"ng %s %s\n" % (result.name, one_line(result.refused))))
    return b"".join(lines) + FLUSH


def one_line(reason: str) -> bytes:
    """`reason` so that it fits into a report: no control characters, not empty, not endless."""
    printable = "".join(letter if letter.isprintable() else " " for letter in reason).strip()
    return printable.encode("utf-8", "replace")[:_REASON_BYTES_MAX] or b"failed"


def error_packet(message: str) -> bytes:
    """`ERR`: ends a conversation whose side bands are not open yet, and tells why."""
    return encode(b"ERR " + one_line(message) + b"\n")
