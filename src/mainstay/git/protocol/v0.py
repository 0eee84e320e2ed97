"""Versions 0 and 1 of a fetch: what the client wants, up to the first flush.

The haves and `done` that follow are not read here: they go to native git, after the request that we
checked and wrote again.

Format: https://git-scm.com/docs/pack-protocol (packfile negotiation)
"""

from dataclasses import dataclass, field

from mainstay.git.objectnames import Oid
from mainstay.git.protocol.arguments import Depth, WrongRequest, filter_in, object_in, shown
from mainstay.git.protocol.pktline import FLUSH, Flush, PktReader, encode, text_of

REQUEST_BYTES_MAX = 64 * 1024 * 1024

_WANT_BYTES = len(b"want ") + 40
_FORWARDED = frozenset(
    b"multi_ack multi_ack_detailed no-done thin-pack side-band side-band-64k ofs-delta no-progress "
    b"include-tag deepen-since deepen-not deepen-relative filter shallow object-format=sha1".split()
)


@dataclass(frozen=True, slots=True)
class WantRequest:
    """What a client of version 0 wants. Without wants it only came to look."""

    wants: tuple[Oid, ...]
    capabilities: frozenset[bytes]
    depth: Depth
    filter: bytes | None
    raw: bytes
    """The head of the request as packets again, with its flush, written from what was understood."""


@dataclass(slots=True)
class _Draft:
    wants: list[Oid] = field(default_factory=list)
    capabilities: frozenset[bytes] = frozenset()
    depth: Depth = field(default_factory=Depth)
    filter: bytes | None = None
    lines: list[bytes] = field(default_factory=list)
    bytes_read: int = 0


class WantReader:
    """Bytes in; the wants out, once; then `take_rest` has the bytes that follow."""

    def __init__(self) -> None:
        self._packets = PktReader()
        self._draft = _Draft()

    @property
    def is_untouched(self) -> bool:
        """Whether not one byte has come."""
        return not self._packets.held_bytes and not self._draft.bytes_read

    def feed(self, data: bytes) -> WantRequest | None:
        """Add bytes; return the request when it is complete. Raises `WrongRequest` or `MalformedPkt`."""
        self._packets.feed(data)
        while (packet := self._packets.next()) is not None:
            if isinstance(packet, Flush):
                return _understood(self._draft)
            if not isinstance(packet, bytes):
                raise WrongRequest("protocol error: a delimiter among the wants")
            _take(self._draft, packet)
        return None

    def take_rest(self) -> bytes:
        """The bytes after the request that came with it."""
        return self._packets.take_rest()


def _take(draft: _Draft, packet: bytes) -> None:
    draft.bytes_read += len(packet) + 4
    if draft.bytes_read > REQUEST_BYTES_MAX:
        raise WrongRequest(f"the request is longer than {REQUEST_BYTES_MAX} bytes")
    line = text_of(packet)
    if line.startswith(b"want "):
        _take_want(draft, line)
    elif line.startswith(b"filter ") and draft.filter is None:
        if b"filter" not in draft.capabilities:
            raise WrongRequest("filtering capability not negotiated")
        draft.filter = filter_in(line)
        draft.lines.append(line)
    elif draft.depth.take(line):
        draft.lines.append(line)
    else:
        raise WrongRequest(f"protocol error: expected a want, found {shown(line)}")


def _take_want(draft: _Draft, line: bytes) -> None:
    """The capabilities stand behind the first want, after a space; only there."""
    want, rest = line[:_WANT_BYTES], line[_WANT_BYTES:]
    named = object_in(want, b"want")
    if rest and (draft.wants or not rest.startswith(b" ") or b"\0" in rest):
        raise WrongRequest(f"protocol error: expected an object name, found {shown(line)}")
    if not draft.wants:
        draft.capabilities = frozenset(rest.split())
        _check_capabilities(draft.capabilities)
        want = b" ".join([want, *sorted(draft.capabilities & _FORWARDED)])
    draft.wants.append(named)
    draft.lines.append(want)


def _check_capabilities(capabilities: frozenset[bytes]) -> None:
    other = {word for word in capabilities if word.startswith(b"object-format=")} - {b"object-format=sha1"}
    if other:
        raise WrongRequest(f"mismatched object format: server sha1; client {shown(min(other))}")


def _understood(draft: _Draft) -> WantRequest:
    draft.depth.relative = b"deepen-relative" in draft.capabilities
    draft.depth.check()
    return WantRequest(
        wants=tuple(draft.wants),
        capabilities=draft.capabilities,
        depth=draft.depth,
        filter=draft.filter,
        raw=b"".join(encode(line + b"\n") for line in draft.lines) + FLUSH,
    )
