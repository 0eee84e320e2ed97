"""Packet lines: strict lengths, any portions."""

import pytest

from mainstay.git.protocol.pktline import (
    DELIM,
    FLUSH,
    PAYLOAD_BYTES_MAX,
    RESPONSE_END,
    Delim,
    Flush,
    MalformedPkt,
    PktReader,
    ResponseEnd,
    encode,
    pkt_length,
    text_of,
)


def test_a_payload_is_framed_by_its_length() -> None:
    assert encode(b"a\n") == b"0006a\n"
    assert encode(b"") == b"0004"
    assert encode(b"x" * PAYLOAD_BYTES_MAX)[:4] == b"fff0"
    with pytest.raises(ValueError, match="65517 bytes"):
        encode(b"x" * (PAYLOAD_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("prefix", "length"),
    [(b"0000", 0), (b"0001", 1), (b"0002", 2), (b"0004", 4), (b"000a", 10), (b"000A", 10), (b"fff0", 65520)],
)
def test_a_length_is_four_hexadecimal_digits(prefix: bytes, length: int) -> None:
    assert pkt_length(prefix) == length


@pytest.mark.parametrize(
    "prefix",
    [
        b"0003",
        b"fff1",
        b"ffff",
        b"-001",
        b"+0f1",
        b" 1  ",
        b"988\n",
        b"1_00",
        b"0x1f",
        b"000",
        b"00000",
        b"00",
        b"",
        b"00g0",
        b"\0\0\0\0",
        "٣٣".encode(),
        b"PACK",
    ],
)
def test_what_python_calls_a_number_is_not_a_length(prefix: bytes) -> None:
    with pytest.raises(MalformedPkt, match="is not a packet length"):
        pkt_length(prefix)


STREAM = encode(b"one\n") + DELIM + encode(b"") + encode(b"two") + RESPONSE_END + FLUSH + b"PACK...."


@pytest.mark.parametrize("portion", [1, 2, 3, 5, 7, 1000])
def test_packets_come_whole_however_the_bytes_come(portion: int) -> None:
    reader = PktReader()
    seen: list[object] = []
    for start in range(0, len(STREAM) - 8, portion):
        reader.feed(STREAM[start : min(start + portion, len(STREAM) - 8)])
        while (packet := reader.next()) is not None:
            seen.append(packet if isinstance(packet, bytes) else type(packet))
    assert seen == [b"one\n", Delim, b"", b"two", ResponseEnd, Flush]
    assert reader.held_bytes == 0


def test_what_follows_the_packets_is_handed_over_untouched() -> None:
    reader = PktReader()
    reader.feed(STREAM)
    while not isinstance(reader.next(), Flush):
        pass
    assert reader.take_rest() == b"PACK...."
    assert reader.take_rest() == b""
    reader.feed(b"0000")
    assert isinstance(reader.next(), Flush)


def test_a_broken_length_ends_the_reading() -> None:
    reader = PktReader()
    reader.feed(encode(b"fine") + b"zzzz")
    assert reader.next() == b"fine"
    with pytest.raises(MalformedPkt, match="b'zzzz'"):
        reader.next()


def test_one_line_feed_is_dropped_and_no_more() -> None:
    assert text_of(b"want\n") == b"want"
    assert text_of(b"want\n\n") == b"want\n"
    assert text_of(b"want") == b"want"
    assert text_of(b"\n") == b""
