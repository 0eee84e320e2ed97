"""Laws of the PROXY header: what an honest proxy writes is read, and no bytes make it read too far."""

import ipaddress
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.foundation.proxy_header import V2_BYTES_MAX, BadProxyHeader, Endpoint, read_header

LAW = settings(derandomize=True, deadline=None, max_examples=300)

MAGIC = b"\r\n\r\n\0\r\nQUIT\n"
PORTS = st.integers(0, 65535)
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)


def v1(source: Ip, destination: Ip, ports: tuple[int, int]) -> bytes:
    return f"PROXY TCP{source.version} {source} {destination} {ports[0]} {ports[1]}\r\n".encode()


def v2(source: Ip, destination: Ip, ports: tuple[int, int], extras: bytes) -> bytes:
    rest = source.packed + destination.packed + struct.pack("!HH", *ports) + extras
    return MAGIC + struct.pack("!BBH", 0x21, 0x11 if source.version == 4 else 0x21, len(rest)) + rest


@LAW
@given(PAIRS, st.tuples(PORTS, PORTS), st.binary(max_size=300), st.booleans(), st.binary(max_size=40))
def test_what_a_proxy_writes_is_read_in_any_portions(
    pair: tuple[Ip, Ip], ports: tuple[int, int], extras: bytes, old: bool, after: bytes
) -> None:
    written = v1(*pair, ports) if old else v2(*pair, ports, extras)
    header = read_header(written + after)
    assert header is not None
    assert header.length_bytes == len(written)
    expected = getattr(pair[0], "ipv4_mapped", None) or pair[0]
    assert header.source == Endpoint(str(expected), ports[0])
    assert all(read_header(written[:size]) is None for size in range(len(written)))


@LAW
@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda rest: MAGIC + rest),
        st.binary(max_size=120).map(lambda rest: b"PROXY " + rest),
        st.text("0123456789abcdef:. TCP46\r\n", max_size=110).map(lambda rest: b"PROXY TCP" + rest.encode()),
    )
)
def test_no_bytes_are_read_too_far_or_for_ever(data: bytes) -> None:
    try:
        header = read_header(data)
    except BadProxyHeader:
        return
    if header is None:
        assert len(data) < V2_BYTES_MAX
        return
    assert 0 < header.length_bytes <= len(data)
    for end in (header.source, header.destination):
        assert end is None or (ipaddress.ip_address(end.host) and 0 <= end.port <= 65535)


@LAW
@given(st.binary(max_size=300), st.integers(0, 300))
def test_more_bytes_never_change_a_verdict(data: bytes, cut: int) -> None:
    seeded = MAGIC + data if len(data) % 2 else b"PROXY " + data
    try:
        early = read_header(seeded[:cut])
    except BadProxyHeader:
        early = None
        try:
            late = read_header(seeded)
        except BadProxyHeader:
            return
        raise AssertionError(f"refused at {cut} bytes, taken whole: {late}") from None
    if early is not None:
        assert read_header(seeded) == early
