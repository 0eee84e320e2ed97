"""The PROXY header: what a proxy says about a connection before the connection itself, versions 1 and 2.

`read_header` looks at the bytes that have come so far. It gives nothing while they are the beginning of a
header, the header and its length once it is whole, and raises as soon as they cannot become one. It does no
I/O and keeps nothing. Whether the peer may announce anything at all is for the caller to know.

Strict on purpose: what a sloppy reader takes for an address, a ban or an audit log takes for a fact.
Checksums and other extras of version 2 (TLV) are skipped. The format is described in HAProxy's
`doc/proxy-protocol.txt`.
"""

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from mainstay.foundation.errors import Invalid
from mainstay.foundation.ip import plain

V1_BYTES_MAX = 107
"""The longest line of version 1, its end included."""
V2_BYTES_MAX = 4096
"""Of a whole header of version 2. The format allows 64 KiB of extras; a long certificate name needs 600."""

_V1_MAGIC = b"PROXY "
_V2_MAGIC = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED_BYTES = 16
_LOCAL, _PROXY = 0x20, 0x21
_V2_IP: dict[int, tuple[str, type[IPv4Address] | type[IPv6Address]]] = {
    0x11: ("!4s4sHH", IPv4Address),
    0x21: ("!16s16sHH", IPv6Address),
}
_V2_SILENT = {0x00, 0x31}
"""Address families that name no host: none at all, and a Unix socket."""
_V1_IP = re.compile(rb"PROXY TCP([46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_PORT_MAX = 65535


class BadProxyHeader(Invalid):
    """These bytes are no PROXY header, and will not become one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of the connection that the proxy has accepted."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """`source` is the client. Without one the proxy speaks for itself, as in its health checks."""

    length_bytes: int
    source: Endpoint | None = None
    destination: Endpoint | None = None


def read_header(seen: bytes) -> ProxyHeader | None:
    """The header that `seen` begins with; None while more is needed. Raises `BadProxyHeader`."""
    if seen.startswith(_V2_MAGIC[:1]):
        return _read_v2(seen)
    return _read_v1(seen)


def _read_v1(seen: bytes) -> ProxyHeader | None:
    if not _V1_MAGIC.startswith(seen[: len(_V1_MAGIC)]):
        raise BadProxyHeader("no PROXY header")
    end = seen.find(b"\n", 0, V1_BYTES_MAX)
    if end < 0:
        if len(seen) >= V1_BYTES_MAX:
            raise BadProxyHeader("a PROXY line without an end")
        return None
    line = seen[: end + 1]
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(len(line))
    found = _V1_IP.fullmatch(line)
    if found is None:
        raise BadProxyHeader(f"not a PROXY line: {line!r}")
    family, source, destination, source_port, destination_port = found.groups()
    kind = IPv4Address if family == b"4" else IPv6Address
    return ProxyHeader(
        len(line),
        Endpoint(_v1_host(source, kind), _v1_port(source_port)),
        Endpoint(_v1_host(destination, kind), _v1_port(destination_port)),
    )


def _v1_host(text: bytes, kind: type[IPv4Address] | type[IPv6Address]) -> str:
    try:
        address = ip_address(text.decode("ascii"))
    except ValueError:
        raise BadProxyHeader(f"no address: {text!r}") from None
    if not isinstance(address, kind):
        raise BadProxyHeader(f"not the announced kind of address: {text!r}")
    return plain(address)


def _v1_port(digits: bytes) -> int:
    if (digits.startswith(b"0") and digits != b"0") or int(digits) > _PORT_MAX:
        raise BadProxyHeader(f"no port: {digits!r}")
    return int(digits)


def _read_v2(seen: bytes) -> ProxyHeader | None:
    if not _V2_MAGIC.startswith(seen[: len(_V2_MAGIC)]):
        raise BadProxyHeader("no PROXY header")
    if len(seen) < _V2_FIXED_BYTES:
        return None
    command, family, following_bytes = struct.unpack_from("!BBH", seen, len(_V2_MAGIC))
    whole_bytes = _V2_FIXED_BYTES + following_bytes
    _check_v2(command, family, whole_bytes)
    if len(seen) < whole_bytes:
        return None
    if command == _LOCAL or family in _V2_SILENT:
        return ProxyHeader(whole_bytes)
    layout, kind = _V2_IP[family]
    source, destination, source_port, destination_port = struct.unpack_from(layout, seen, _V2_FIXED_BYTES)
    return ProxyHeader(
        whole_bytes,
        Endpoint(plain(kind(source)), source_port),
        Endpoint(plain(kind(destination)), destination_port),
    )


def _check_v2(command: int, family: int, whole_bytes: int) -> None:
    """What the fixed part says is judged before anything is waited for."""
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeader(f"PROXY version and command {command:#04x}")
    if whole_bytes > V2_BYTES_MAX:
        raise BadProxyHeader(f"a PROXY header of {whole_bytes} bytes")
    if command == _LOCAL:
        return
    if family not in _V2_IP and family not in _V2_SILENT:
        raise BadProxyHeader(f"PROXY address family {family:#04x}")
    if family in _V2_IP and whole_bytes < _V2_FIXED_BYTES + struct.calcsize(_V2_IP[family][0]):
        raise BadProxyHeader(f"{whole_bytes} bytes are too few for the addresses")
