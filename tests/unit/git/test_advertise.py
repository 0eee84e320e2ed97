"""What the server says first."""

from mainstay import __version__
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.git.protocol.advertise import (
    Head,
    RefLine,
    capabilities_v2,
    encode_ref_lines,
    receive_pack_refs,
    service_header,
    upload_pack_refs,
)
from mainstay.git.protocol.pktline import Flush, PktReader
from mainstay.git.protocol.services import Service

A, B, C = Oid("a" * 40), Oid("b" * 40), Oid("c" * 40)
MAIN = RefName(b"refs/heads/main")
REFS: list[RefLine] = [(MAIN, A, None), (RefName(b"refs/tags/v1"), B, C)]


def _lines(stream: bytes) -> list[bytes]:
    """The packets up to the flush, which must be the end."""
    reader = PktReader()
    reader.feed(stream)
    lines = []
    while not isinstance(packet := reader.next(), Flush):
        assert isinstance(packet, bytes)
        lines.append(packet)
    assert reader.held_bytes == 0
    return lines


def _upload(refs: list[RefLine], head: Head | None, **options: object) -> list[bytes]:
    return _lines(b"".join(upload_pack_refs(refs, head, **{"stateless": True, **options})))  # type: ignore[arg-type]


def test_head_comes_first_with_the_capabilities() -> None:
    first, *others = _upload(REFS, Head(MAIN, A))
    name, _, capabilities = first.partition(b"\0")
    assert name == b"a" * 40 + b" HEAD"
    assert b"symref=HEAD:refs/heads/main" in capabilities.split()
    assert b"agent=mainstay/" + __version__.encode() in capabilities.split()
    assert {b"side-band-64k", b"filter", b"shallow", b"no-done", b"multi_ack_detailed"} <= set(
        capabilities.split()
    )
    assert others == [
        b"a" * 40 + b" refs/heads/main\n",
        b"b" * 40 + b" refs/tags/v1\n",
        b"c" * 40 + b" refs/tags/v1^{}\n",
    ]


def test_only_tips_and_what_they_reach_are_offered_by_name() -> None:
    (first, *_) = _upload(REFS, Head(MAIN, A))
    assert b" allow-tip-sha1-in-want allow-reachable-sha1-in-want " in first
    assert b"allow-any" not in first


def test_without_a_head_the_first_ref_carries_the_capabilities() -> None:
    unborn = _upload(REFS[1:], Head(RefName(b"refs/heads/other"), None))
    assert unborn == _upload(REFS[1:], None)
    assert unborn[0].startswith(b"b" * 40 + b" refs/tags/v1\0")
    assert b"symref" not in unborn[0]
    assert unborn[1] == b"c" * 40 + b" refs/tags/v1^{}\n"


def test_an_empty_repository_still_tells_its_capabilities() -> None:
    for line in (_upload([], None), _lines(b"".join(receive_pack_refs([])))):
        assert len(line) == 1
        assert line[0].startswith(ZERO_OID.encode() + b" capabilities^{}\0")


def test_no_done_is_for_requests_without_a_connection_only() -> None:
    assert b"no-done" in _upload(REFS, None)[0].split()
    assert b"no-done" not in _upload(REFS, None, stateless=False)[0].split()


def test_a_pusher_sees_neither_head_nor_what_tags_lead_to() -> None:
    first, second = _lines(b"".join(receive_pack_refs(REFS)))
    assert first.startswith(b"a" * 40 + b" refs/heads/main\0report-status report-status-v2 delete-refs ")
    assert {b"atomic", b"push-options", b"side-band-64k", b"ofs-delta"} <= set(first.split())
    assert second == b"b" * 40 + b" refs/tags/v1\n"


def test_kept_lines_change_nothing() -> None:
    many: list[RefLine] = [
        (RefName(b"refs/heads/%05d" % n), A, B if n % 7 == 0 else None) for n in range(9000)
    ]
    kept = encode_ref_lines(many)
    assert upload_pack_refs(many, Head(MAIN, A), stateless=True, lines=kept) == upload_pack_refs(
        many, Head(MAIN, A), stateless=True
    )
    assert len(_lines(b"".join(upload_pack_refs(many, None, stateless=True, lines=kept)))) == 9000 + 1286
    assert len(_lines(b"".join(receive_pack_refs(many)))) == 9000


def test_version_1_says_so_first() -> None:
    assert _upload(REFS, Head(MAIN, A), version=1)[0] == b"version 1\n"
    assert _lines(b"".join(receive_pack_refs(REFS, version=1)))[0] == b"version 1\n"


def test_version_2_tells_what_it_can() -> None:
    assert _lines(capabilities_v2()) == [
        b"version 2\n",
        b"agent=mainstay/" + __version__.encode() + b"\n",
        b"ls-refs=unborn\n",
        b"fetch=shallow wait-for-done filter\n",
        b"server-option\n",
        b"object-format=sha1\n",
    ]


def test_http_names_the_service_first() -> None:
    assert service_header(Service.UPLOAD_PACK) == b"001e# service=git-upload-pack\n0000"
