"""What is fuzzed: every parser that reads bytes of a stranger.

A target takes any bytes. It may refuse them with `Invalid`; anything else that it raises is a finding.
What it accepts must keep the laws that the rest of Mainstay builds on.
"""

import contextlib
import re
from collections.abc import Callable
from ipaddress import ip_address

from mainstay.foundation.errors import Invalid
from mainstay.foundation.proxy_header import ProxyHeader, read_header
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.git.packs import PackIndex, object_count
from mainstay.git.protocol import receive, v0, v2
from mainstay.git.protocol.advertise import Head, RefLine
from mainstay.git.protocol.pktline import DELIM, FLUSH, PktReader, encode
from mainstay.git.protocol.ssh_command import parse
from mainstay.git.refs import check_pushed_name, check_ref_name

Target = Callable[[bytes], None]

OID = b"0123456789abcdef0123456789abcdef01234567"
_OID = re.compile(r"[0-9a-f]{40}\Z")
_REFS: list[RefLine] = [
    (RefName(name), ZERO_OID, None) for name in (b"refs/heads/a", b"refs/heads/b", b"refs/tags/a")
]


def _in_two(data: bytes) -> tuple[bytes, bytes]:
    """Cut where the data itself says, so that a fuzzer can look for a cut that matters."""
    at = data[0] if data else 0
    return data[:at], data[at:]


def _packets(*pieces: bytes) -> tuple[list[object], bytes, str]:
    reader, packets = PktReader(), []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (packet := reader.next()) is not None:
                packets.append(packet if isinstance(packet, bytes) else type(packet))
    except Invalid as error:
        return packets, b"", str(error)
    return packets, reader.take_rest(), ""


def pkt_line(data: bytes) -> None:
    """The portions in which bytes come change nothing, and no byte is lost."""
    whole = _packets(data)
    assert _packets(*_in_two(data)) == whole
    packets, rest, error = whole
    size = sum(len(packet) + 4 if isinstance(packet, bytes) else 4 for packet in packets)
    assert error or size + len(rest) == len(data)


def v2_request(data: bytes) -> None:
    """What is understood can be written again and understood the same."""
    reader = v2.RequestReader()
    for piece in _in_two(data):
        try:
            reader.feed(piece)
            found = reader.next()
        except Invalid:
            return
        if isinstance(found, v2.Fetch):
            _same_fetch(found)
        elif isinstance(found, v2.LsRefs):
            v2.ls_refs_response(found, _REFS, Head(RefName(b"refs/heads/a"), ZERO_OID))


def _same_fetch(found: v2.Fetch) -> None:
    assert all(map(_OID.match, (*found.wants, *found.haves, *found.shallows)))
    assert b"\0" not in found.raw
    reader = v2.RequestReader()
    reader.feed(found.raw)
    assert reader.next() == found


def v0_request(data: bytes) -> None:
    """As for version 2; and what follows the request is left whole."""
    reader = v0.WantReader()
    try:
        found = reader.feed(data)
    except Invalid:
        return
    if found is None:
        return
    assert all(map(_OID.match, (*found.wants, *found.depth.shallows)))
    assert b"\0" not in found.raw
    rest = reader.take_rest()
    assert data.endswith(rest)
    again = v0.WantReader().feed(found.raw)
    assert again is not None
    assert (again.wants, again.depth, again.filter) == (found.wants, found.depth, found.filter)


def push_commands(data: bytes) -> None:
    """Names and options hold nothing that could end a line or a string elsewhere."""
    reader, found = receive.CommandReader(), None
    try:
        for piece in _in_two(data):
            found = reader.feed(piece)
    except Invalid:
        return
    if found is None:
        return
    for command in found.commands:
        assert _OID.match(command.old)
        assert _OID.match(command.new)
        assert command.name
        assert b"\0" not in command.name
    assert not any(b"\0" in option or b"\n" in option for option in found.options)
    assert data.endswith(reader.take_rest())


def ssh_command(data: bytes) -> None:
    """A path that is understood is understood again when git quotes it."""
    try:
        found = parse(data)
    except Invalid:
        return
    assert found.path
    assert "\0" not in found.path
    assert "\n" not in found.path
    quoted = "'" + found.path.replace("'", "'\\''").replace("!", "'\\!'") + "'"
    assert parse(f"{found.service} {quoted}") == found


def ref_name(data: bytes) -> None:
    """A name that passes has the form; a name that a push may create passes everywhere."""
    reason = check_ref_name(data)
    if reason is None:
        assert not re.search(rb"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(/|\Z)|(\A|/)\.|[./]\Z", data)
    else:
        assert reason.isprintable()
        assert check_pushed_name(data) is not None
    check_pushed_name(b"refs/" + data)


def pack_index(data: bytes) -> None:
    """An index that is accepted can be read to its end."""
    with contextlib.suppress(Invalid):
        object_count(data, objects_max=1000)
    try:
        index = PackIndex(data)
    except Invalid:
        return
    names = list(index.oids())
    assert len(names) == index.count
    assert isinstance(Oid(OID.decode()) in index, bool)


def proxy_header(data: bytes) -> None:
    """The portions change nothing, no byte behind the header is taken, and an address is one."""
    found = _header(data)
    early = _header(data[: len(data) // 2])
    assert early in (None, found)
    if isinstance(found, ProxyHeader):
        assert 0 < found.length_bytes <= len(data)
        assert _header(data[: found.length_bytes]) == found
        for end in (found.source, found.destination):
            assert end is None or (ip_address(end.host) and 0 <= end.port < 2**16)


def _header(data: bytes) -> ProxyHeader | str | None:
    try:
        return read_header(data)
    except Invalid:
        return "refused"


def _lines(*lines: bytes) -> bytes:
    return b"".join(map(encode, lines))


_WANTS = (
    _lines(b"want " + OID + b" filter side-band-64k", b"shallow " + OID, b"deepen 1", b"filter tree:0")
    + FLUSH
)
_PUSH = ZERO_OID.encode() + b" " + OID + b" refs/heads/a\0report-status push-options"

TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "pkt_line": (
        pkt_line,
        [b"\x08" + _WANTS, b"0004" + DELIM + b"0002" + b"fff0", b"0003", b"+0f1", b"1_00", b"988\n"],
    ),
    "v2_request": (
        v2_request,
        [
            _lines(b"command=ls-refs\n", b"agent=x") + DELIM + _lines(b"peel\n", b"ref-prefix refs/") + FLUSH,
            _lines(b"command=fetch")
            + DELIM
            + _lines(b"want " + OID, b"deepen-since 5", b"filter blob:none")
            + FLUSH,
        ],
    ),
    "v0_request": (v0_request, [_WANTS + _lines(b"have " + OID, b"done"), FLUSH]),
    "push_commands": (push_commands, [_lines(_PUSH) + FLUSH + _lines(b"ci.skip") + FLUSH + b"PACK", FLUSH]),
    "ssh_command": (
        ssh_command,
        [b"git-upload-pack '/a/b.git'", b"git receive-pack 'a'\\''b'\\!''", b"git-lfs-transfer /a"],
    ),
    "ref_name": (ref_name, [b"refs/heads/main", b"refs/a.lock/b", b"a@{b", b"refs/heads/--x", b"@"]),
    "proxy_header": (
        proxy_header,
        [
            b"PROXY TCP4 192.0.2.7 10.0.0.1 5555 22\r\nSSH-2.0-x",
            b"PROXY TCP6 2001:db8::7 ::ffff:10.0.0.1 5 22\r\n",
            b"PROXY UNKNOWN ff\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x04\0\0GET",
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        ],
    ),
    "pack_index": (pack_index, [b"PACK\0\0\0\2\0\0\0\1", b"\xfftOc\0\0\0\2" + b"\0" * 1064]),
}
"""Each target with inputs to start from."""
