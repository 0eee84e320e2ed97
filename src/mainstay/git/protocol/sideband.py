"""Side bands: several streams in one, told apart by the first byte of each packet."""

from mainstay.git.protocol.pktline import PACKET_BYTES_MAX

DATA = 1
PROGRESS = 2
FATAL = 3

SIDE_BAND_64K = PACKET_BYTES_MAX - 5
"""Bytes of data in one packet under `side-band-64k`, and under protocol version 2."""
SIDE_BAND = 1000 - 5
"""Bytes of data in one packet under the old `side-band`."""


def frames(channel: int, data: bytes, *, data_bytes_max: int = SIDE_BAND_64K) -> bytes:
    """`data` as packets on `channel`; nothing for no data."""
    if channel not in (DATA, PROGRESS, FATAL):
        raise ValueError(f"there is no side band {channel}")
    parts: list[bytes] = []
    for start in range(0, len(data), data_bytes_max):
        part = data[start : start + data_bytes_max]
        parts.append(b"%04x%c" % (len(part) + 5, channel))
        parts.append(part)
    return b"".join(parts)
