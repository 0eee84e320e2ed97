"""The PROXY header, byte by byte: what is understood, what is waited for, what is refused."""

import struct

import pytest

from mainstay.foundation.proxy_header import (
    V1_BYTES_MAX,
    V2_BYTES_MAX,
    BadProxyHeader,
    Endpoint,
    ProxyHeader,
    read_header,
)

MAGIC = b"\r\n\r\n\0\r\nQUIT\n"
V4 = bytes([192, 0, 2, 7, 10, 0, 0, 1]) + struct.pack("!HH", 5555, 22)
V6 = bytes.fromhex("20010db8000000000000000000000007" + "fd000000000000000000000000000001") + struct.pack(
    "!HH", 5555, 22
)


def v2(command: int, family: int, rest: bytes) -> bytes:
    return MAGIC + struct.pack("!BBH", command, family, len(rest)) + rest


@pytest.mark.parametrize(
    ("line", "source"),
    [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 5555 22\r\n", Endpoint("192.0.2.7", 5555)),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Endpoint("255.255.255.255", 65535)),
        (b"PROXY TCP6 2001:DB8::7 fd00::1 0 22\r\n", Endpoint("2001:db8::7", 0)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 5555 22\r\n", Endpoint("192.0.2.7", 5555)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ff:: whatever 99999 a\r\n", None),
    ],
)
def test_version_1(line: bytes, source: Endpoint | None) -> None:
    header = read_header(line + b"SSH-2.0-x\r\n")
    assert header is not None
    assert (header.length_bytes, header.source) == (len(line), source)


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"proxy TCP4 192.0.2.7 10.0.0.1 5555 22\r\n",
        b"PROXYTCP4",
        b"PROXY  TCP4 192.0.2.7 10.0.0.1 5555 22\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 5555 22\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 5555\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 5555 22 \r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 05555 22\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 22\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 -1 22\r\n",
        b"PROXY TCP4 192.0.2.07 10.0.0.1 5555 22\r\n",
        b"PROXY TCP4 192.0.2 10.0.0.1 5555 22\r\n",
        b"PROXY TCP4 2001:db8::7 fd00::1 5555 22\r\n",
        b"PROXY TCP6 192.0.2.7 10.0.0.1 5555 22\r\n",
        b"PROXY TCP6 fe80::1%eth0 fd00::1 5555 22\r\n",
        b"PROXY TCP5 192.0.2.7 10.0.0.1 5555 22\r\n",
        b"PROXY UDP4 192.0.2.7 10.0.0.1 5555 22\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY " + b"a" * V1_BYTES_MAX,
        b"PROXY UNKNOWN " + b"a" * V1_BYTES_MAX + b"\r\n",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\n",
    ],
)
def test_what_is_no_header_is_refused(line: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        read_header(line)


def test_version_2_has_both_families_and_skips_what_follows_the_addresses() -> None:
    extras = b"\x04\x00\x03abc" + b"\x20\x00\x05\x01\0\0\0\0"
    assert read_header(v2(0x21, 0x11, V4 + extras) + b"more") == ProxyHeader(
        16 + len(V4 + extras), Endpoint("192.0.2.7", 5555), Endpoint("10.0.0.1", 22)
    )
    assert read_header(v2(0x21, 0x21, V6)) == ProxyHeader(
        16 + len(V6), Endpoint("2001:db8::7", 5555), Endpoint("fd00::1", 22)
    )


@pytest.mark.parametrize(
    "header",
    [
        v2(0x20, 0x00, b""),
        v2(0x20, 0x11, V4),  # LOCAL: the addresses mean nothing
        v2(0x20, 0xFF, b"abc"),
        v2(0x21, 0x00, b""),
        v2(0x21, 0x00, b"\x04\0\0"),
        v2(0x21, 0x31, b"\0" * 216),
    ],
)
def test_a_proxy_may_speak_for_itself(header: bytes) -> None:
    assert read_header(header) == ProxyHeader(len(header))


@pytest.mark.parametrize(
    "header",
    [
        v2(0x11, 0x11, V4),  # version 1 in the clothes of version 2
        v2(0x31, 0x11, V4),
        v2(0x22, 0x11, V4),
        v2(0x21, 0x12, V4),  # datagrams
        v2(0x21, 0x22, V6),
        v2(0x21, 0x41, V4),
        v2(0x21, 0x11, V4[:-1]),
        v2(0x21, 0x21, V4),
        MAGIC + struct.pack("!BBH", 0x21, 0x11, V2_BYTES_MAX - 15),
        MAGIC + b"\x21\x11\xff\xff",
    ],
)
def test_an_odd_version_2_is_refused_before_its_end_is_waited_for(header: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        read_header(header)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP6 2001:db8::7 fd00::1 5555 22\r\n",
        b"PROXY UNKNOWN\r\n",
        v2(0x21, 0x21, V6),
        v2(0x20, 0, b""),
    ],
)
def test_every_beginning_is_waited_for(header: bytes) -> None:
    assert all(read_header(header[:size]) is None for size in range(len(header)))
    assert read_header(header) is not None
