"""What a server says first: its refs (versions 0 and 1) or what it can do (version 2).

Encoding 100,000 refs is the expensive part, and it is the same for every client of one version of a
repository: keep what `encode_ref_lines` returned and give it again as `lines`.

Format: https://git-scm.com/docs/pack-protocol, https://git-scm.com/docs/protocol-capabilities
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mainstay import __version__
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.git.protocol.pktline import FLUSH, encode

AGENT = f"mainstay/{__version__}"

RefLine = tuple[RefName, Oid, Oid | None]
"""A ref as it is shown: name, object, and for an annotated tag the object it leads to."""

_LINES_PER_CHUNK = 4096

_UPLOAD_PACK = (
    "multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not "
    "deepen-relative no-progress include-tag multi_ack_detailed "
    "allow-tip-sha1-in-want allow-reachable-sha1-in-want"
)
"""Reachable wants are offered because somebody checks them: a partial clone asks for its blobs so."""
_RECEIVE_PACK = "report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta push-options"

_CAPABILITIES_V2 = (
    "version 2",
    f"agent={AGENT}",
    "ls-refs=unborn",
    "fetch=shallow wait-for-done filter",
    "server-option",
    "object-format=sha1",
)


@dataclass(frozen=True, slots=True)
class Head:
    """Where HEAD points. `oid` is None while that branch does not exist."""

    target: RefName
    oid: Oid | None


def encode_ref_lines(refs: Iterable[RefLine], *, peeled: bool = True) -> list[bytes]:
    """One entry per ref: its packet, and with `peeled` the packet of what a tag leads to.

    Upload-pack shows peeled tags, receive-pack does not.
    """
    plain = b"%04x%s %s\n"
    with_peeled = plain + b"%04x%s %s^{}\n"
    lines: list[bytes] = []
    for name, oid, leads_to in refs:
        length = len(name) + 46
        if leads_to is None or not peeled:
            lines.append(plain % (length, oid.encode(), name))
        else:
            values = (length, oid.encode(), name, length + 3, leads_to.encode(), name)
            lines.append(with_peeled % values)
    return lines


def upload_pack_refs(
    refs: Sequence[RefLine],
    head: Head | None,
    *,
    version: int = 0,
    stateless: bool,
    lines: Sequence[bytes] | None = None,
) -> list[bytes]:
    """The ref advertisement of upload-pack in chunks to be sent one after the other.

    `refs` are ordered by name, without HEAD. `lines`, when given, is `encode_ref_lines(refs)`.
    """
    capabilities = _upload_pack_capabilities(head, stateless=stateless)
    shown = encode_ref_lines(refs) if lines is None else lines
    if head is not None and head.oid is not None:
        first = [_first_line(RefName(b"HEAD"), head.oid, None, capabilities)]
        return _in_chunks(version, first, shown, 0)
    return _in_chunks(version, _capabilities_on(refs, capabilities), shown, 1)


def receive_pack_refs(
    refs: Sequence[RefLine], *, version: int = 0, lines: Sequence[bytes] | None = None
) -> list[bytes]:
    """The ref advertisement of receive-pack in chunks. `lines` is `encode_ref_lines(refs, peeled=False)`."""
    capabilities = f"{_RECEIVE_PACK} object-format=sha1 agent={AGENT}".encode()
    shown = encode_ref_lines(refs, peeled=False) if lines is None else lines
    first = _capabilities_on([(name, oid, None) for name, oid, _ in refs[:1]], capabilities)
    return _in_chunks(version, first, shown, 1)


def capabilities_v2() -> bytes:
    """What we can do, in version 2: the whole answer to a client that asks for it."""
    return b"".join(encode(f"{line}\n".encode()) for line in _CAPABILITIES_V2) + FLUSH


def service_header(service: str) -> bytes:
    """What precedes the advertisement over HTTP, and only there."""
    return encode(f"# service={service}\n".encode()) + FLUSH


def _upload_pack_capabilities(head: Head | None, *, stateless: bool) -> bytes:
    words = [_UPLOAD_PACK.encode()]
    if stateless:
        words.append(b"no-done")
    if head is not None and head.oid is not None:
        words.append(b"symref=HEAD:" + head.target)
    words += [b"filter", b"object-format=sha1", f"agent={AGENT}".encode()]
    return b" ".join(words)


def _capabilities_on(refs: Sequence[RefLine], capabilities: bytes) -> list[bytes]:
    """The first line, which carries the capabilities; of a made-up ref when there is none."""
    if not refs:
        return [_first_line(RefName(b"capabilities^{}"), ZERO_OID, None, capabilities)]
    return [_first_line(*refs[0], capabilities)]


def _first_line(name: RefName, oid: Oid, leads_to: Oid | None, capabilities: bytes) -> bytes:
    line = encode(b"%s %s\0%s\n" % (oid.encode(), name, capabilities))
    return line if leads_to is None else line + encode(b"%s %s^{}\n" % (leads_to.encode(), name))


def _in_chunks(version: int, first: list[bytes], lines: Sequence[bytes], start: int) -> list[bytes]:
    greeting = [encode(b"version 1\n")] if version == 1 else []
    chunks = [b"".join(greeting + first)]
    starts = range(start, len(lines), _LINES_PER_CHUNK)
    chunks += [b"".join(lines[at : at + _LINES_PER_CHUNK]) for at in starts]
    chunks[-1] += FLUSH
    return chunks
