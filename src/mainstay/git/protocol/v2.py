"""Version 2: one command per request, its capabilities, a delimiter, its arguments, a flush.

`RequestReader` reads requests from bytes in any portions. What git refuses is refused with git's words
(`unknown capability`, `unexpected line`), and a little more: see `arguments`.

Format: https://git-scm.com/docs/protocol-v2
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from mainstay.git.objectnames import Oid
from mainstay.git.protocol.advertise import Head, RefLine
from mainstay.git.protocol.arguments import Depth, WrongRequest, filter_in, object_in, shown
from mainstay.git.protocol.pktline import DELIM, FLUSH, Delim, Flush, PktReader, ResponseEnd, encode, text_of

REQUEST_BYTES_MAX = 64 * 1024 * 1024
"""A request that names a million objects fits; nobody asks more."""
PREFIXES_MAX = 65536
"""From so many prefixes on git ignores them all and shows everything, and so do we."""
CAPABILITIES_MAX = 1000

_CAPABILITIES = (b"agent", b"server-option", b"object-format")
_LINES_PER_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class LsRefs:
    """Which refs are there?"""

    peel: bool
    symrefs: bool
    unborn: bool
    prefixes: tuple[bytes, ...]
    """Names must start with one of these. Empty means all."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Send me objects."""

    wants: tuple[Oid, ...]
    haves: tuple[Oid, ...]
    depth: Depth
    filter: bytes | None
    done: bool
    wait_for_done: bool
    thin_pack: bool
    no_progress: bool
    include_tag: bool
    ofs_delta: bool
    raw: bytes
    """The request as packets again, written from what was understood: native git can read nothing else
    in it than we did."""

    @property
    def shallows(self) -> tuple[Oid, ...]:
        return tuple(self.depth.shallows)


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The client asks nothing more on this connection."""


Request = LsRefs | Fetch | Goodbye


@dataclass(slots=True)
class _Draft:
    """What was read of a request so far."""

    command: bytes | None = None
    capabilities: list[bytes] = field(default_factory=list)
    arguments: list[bytes] = field(default_factory=list)
    in_arguments: bool = False
    bytes_read: int = 0


class RequestReader:
    """Bytes in, requests out; one after the other on a connection with state."""

    def __init__(self) -> None:
        self._packets = PktReader()
        self._draft = _Draft()

    def feed(self, data: bytes) -> None:
        self._packets.feed(data)

    @property
    def is_between_requests(self) -> bool:
        """Whether the client may end the connection here without having been cut off."""
        return not self._packets.held_bytes and not self._draft.bytes_read

    def next(self) -> Request | None:
        """The next request, or None when more bytes are needed.

        Raises `WrongRequest` or `MalformedPkt`; nothing more can be read then.
        """
        while (packet := self._packets.next()) is not None:
            if isinstance(packet, Flush):
                draft, self._draft = self._draft, _Draft()
                return _understood(draft)
            _take(self._draft, packet)
        return None


@lru_cache(maxsize=256)
def whole_request(data: bytes) -> Request | None:
    """The one request that `data` is, or None when it is less or more. Raises as `RequestReader` does.

    Pure, and clients say the same again and again, so the last answers are remembered: give it small data.
    """
    reader = RequestReader()
    reader.feed(data)
    request = reader.next()
    return request if reader.is_between_requests else None


def _take(draft: _Draft, packet: bytes | Delim | ResponseEnd) -> None:
    if isinstance(packet, Delim) and not draft.in_arguments:
        draft.in_arguments = True
        draft.bytes_read += len(DELIM)
        return
    if not isinstance(packet, bytes):
        raise WrongRequest("expected a flush packet after the arguments")
    draft.bytes_read += len(packet) + 4
    if draft.bytes_read > REQUEST_BYTES_MAX:
        raise WrongRequest(f"the request is longer than {REQUEST_BYTES_MAX} bytes")
    if draft.in_arguments:
        draft.arguments.append(text_of(packet))
    else:
        _take_key(draft, text_of(packet))


def _take_key(draft: _Draft, line: bytes) -> None:
    name, _, value = line.partition(b"=")
    if name == b"command" and value:
        if draft.command is not None:
            raise WrongRequest(f"command {shown(value)} requested after command {shown(draft.command)}")
        draft.command = value
    elif name not in _CAPABILITIES or b"\0" in line:
        raise WrongRequest(f"unknown capability {shown(line)}")
    elif name == b"object-format" and value != b"sha1":
        raise WrongRequest(f"mismatched object format: server sha1; client {shown(value)}")
    else:
        draft.capabilities.append(line)
        if len(draft.capabilities) > CAPABILITIES_MAX:
            raise WrongRequest(f"more than {CAPABILITIES_MAX} capabilities")


def _understood(draft: _Draft) -> Request:
    if draft.command == b"ls-refs":
        return _ls_refs(draft.arguments)
    if draft.command == b"fetch":
        return _fetch(draft.arguments)
    if draft.command is not None:
        raise WrongRequest(f"invalid command {shown(draft.command)}")
    if draft.bytes_read:
        raise WrongRequest("no command requested")
    return Goodbye()


def _ls_refs(arguments: Sequence[bytes]) -> LsRefs:
    known = {b"peel": False, b"symrefs": False, b"unborn": False}
    prefixes: list[bytes] = []
    for line in arguments:
        if line in known:
            known[line] = True
        elif line.startswith(b"ref-prefix ") and b"\0" not in line:
            prefixes.append(line.removeprefix(b"ref-prefix "))
        else:
            raise WrongRequest(f"unexpected line: {shown(line)}")
    if len(prefixes) >= PREFIXES_MAX:
        prefixes = []
    return LsRefs(known[b"peel"], known[b"symrefs"], known[b"unborn"], tuple(prefixes))


def _fetch(arguments: Sequence[bytes]) -> Fetch:
    words = dict.fromkeys(_FETCH_WORDS, False)
    wants: list[Oid] = []
    haves: list[Oid] = []
    depth = Depth()
    chosen: bytes | None = None
    for line in arguments:
        if line.startswith(b"have "):
            haves.append(object_in(line, b"have"))
        elif line.startswith(b"want "):
            wants.append(object_in(line, b"want"))
        elif line in words:
            words[line] = True
        elif line.startswith(b"filter ") and chosen is None:
            chosen = filter_in(line)
        elif not depth.take(line):
            raise WrongRequest(f"unexpected line: {shown(line)}")
    depth.relative = words[b"deepen-relative"]
    depth.check()
    return Fetch(
        wants=tuple(wants),
        haves=tuple(haves),
        depth=depth,
        filter=chosen,
        done=words[b"done"],
        wait_for_done=words[b"wait-for-done"],
        thin_pack=words[b"thin-pack"],
        no_progress=words[b"no-progress"],
        include_tag=words[b"include-tag"],
        ofs_delta=words[b"ofs-delta"],
        raw=_fetch_request(arguments),
    )


_FETCH_WORDS = (
    b"done",
    b"wait-for-done",
    b"thin-pack",
    b"no-progress",
    b"include-tag",
    b"ofs-delta",
    b"deepen-relative",
)


def _fetch_request(arguments: Sequence[bytes]) -> bytes:
    start = encode(b"command=fetch\n") + encode(b"object-format=sha1\n") + DELIM
    return start + b"".join([b"%04x%s\n" % (len(line) + 5, line) for line in arguments]) + FLUSH


def encode_ls_refs_lines(refs: Sequence[RefLine], *, peel: bool) -> list[bytes]:
    """One packet per ref as `ls-refs` shows it; worth keeping for the next client."""
    lines: list[bytes] = []
    for name, oid, leads_to in refs:
        if leads_to is None or not peel:
            lines.append(b"%04x%s %s\n" % (len(name) + 46, oid.encode(), name))
        else:
            values = (len(name) + 94, oid.encode(), name, leads_to.encode())
            lines.append(b"%04x%s %s peeled:%s\n" % values)
    return lines


def ls_refs_response(
    request: LsRefs, refs: Sequence[RefLine], head: Head | None, *, lines: Sequence[bytes] | None = None
) -> list[bytes]:
    """The answer in chunks. `refs` are ordered by name, without HEAD.

    `lines`, when given, is `encode_ls_refs_lines(refs, peel=request.peel)`.
    """
    chunks = [_head_line(request, head)]
    for start, end in _matching(refs, request.prefixes):
        for at in range(start, end, _LINES_PER_CHUNK):
            until = min(at + _LINES_PER_CHUNK, end)
            if lines is None:
                chunks.append(b"".join(encode_ls_refs_lines(refs[at:until], peel=request.peel)))
            else:
                chunks.append(b"".join(lines[at:until]))
    chunks[-1] += FLUSH
    return chunks


def _head_line(request: LsRefs, head: Head | None) -> bytes:
    if head is None or (request.prefixes and not b"HEAD".startswith(request.prefixes)):
        return b""
    if head.oid is None and not (request.unborn and request.symrefs):
        return b""
    line = b"%s HEAD" % (b"unborn" if head.oid is None else head.oid.encode())
    if request.symrefs:
        line += b" symref-target:" + head.target
    return encode(line + b"\n")


def _matching(refs: Sequence[RefLine], prefixes: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """The ranges of `refs` with one of the prefixes, in order and without overlap."""
    if not prefixes:
        yield 0, len(refs)
        return
    reached = 0
    for prefix in sorted(set(prefixes)):
        start = max(reached, bisect_left(refs, prefix, key=lambda ref: ref[0]))
        after = _after(prefix)
        end = len(refs) if after is None else bisect_left(refs, after, lo=start, key=lambda ref: ref[0])
        if start < end:
            yield start, end
            reached = end


def _after(prefix: bytes) -> bytes | None:
    """The least name greater than every name with `prefix`, or None when there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
