"""Side bands: data cut to packets of the negotiated size."""

import pytest

from mainstay.git.protocol.pktline import PACKET_BYTES_MAX, PktReader
from mainstay.git.protocol.sideband import SIDE_BAND, SIDE_BAND_64K, frames


def _packets(stream: bytes) -> list[bytes]:
    reader = PktReader()
    reader.feed(stream)
    packets = []
    while (packet := reader.next()) is not None:
        assert isinstance(packet, bytes)
        packets.append(packet)
    assert reader.held_bytes == 0
    return packets


@pytest.mark.parametrize("limit", [SIDE_BAND, SIDE_BAND_64K])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_data_is_cut_at_the_limit(limit: int, more: int) -> None:
    data = bytes(range(256)) * ((2 * limit) // 256 + 2)
    data = data[: 2 * limit + more]
    packets = _packets(frames(2, data, data_bytes_max=limit))
    assert b"".join(packet[1:] for packet in packets) == data
    assert {packet[:1] for packet in packets} == {b"\x02"}
    assert max(len(packet) for packet in packets) == limit + 1


def test_the_largest_packets_are_the_largest_allowed() -> None:
    assert len(frames(1, b"x" * SIDE_BAND_64K)) == PACKET_BYTES_MAX
    assert len(frames(1, b"x" * SIDE_BAND, data_bytes_max=SIDE_BAND)) == 1000


def test_no_data_is_no_packet_and_no_other_band_exists() -> None:
    assert frames(1, b"") == b""
    with pytest.raises(ValueError, match="no side band 4"):
        frames(4, b"x")
