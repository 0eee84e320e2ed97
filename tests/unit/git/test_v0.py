"""Versions 0 and 1: the wants, strictly read and written again."""

import pytest

from mainstay.git.objectnames import Oid
from mainstay.git.protocol import v0
from mainstay.git.protocol.arguments import WrongRequest
from mainstay.git.protocol.pktline import DELIM, FLUSH, encode

A, B, C = (letter * 40 for letter in ("a", "b", "c"))
CAPABILITIES = b"multi_ack_detailed side-band-64k thin-pack ofs-delta filter agent=git/2.39"


def head(*lines: bytes) -> bytes:
    return b"".join(encode(line + b"\n") for line in lines) + FLUSH


def want(oid: str, capabilities: bytes = b"") -> bytes:
    return b"want " + oid.encode() + (b" " + capabilities if capabilities else b"")


def read(stream: bytes) -> v0.WantRequest:
    found = v0.WantReader().feed(stream)
    assert found is not None
    return found


@pytest.mark.parametrize("portion", [1, 7, 10_000])
def test_wants_are_read_and_the_haves_are_left(portion: int) -> None:
    haves = encode(b"have " + C.encode() + b"\n") + encode(b"done\n")
    stream = (
        head(want(A, CAPABILITIES), want(B), b"shallow " + C.encode(), b"deepen 1", b"filter blob:none")
        + haves
    )
    reader, found, rest = v0.WantReader(), None, b""
    assert reader.is_untouched
    for start in range(0, len(stream), portion):
        if found is None:
            found = reader.feed(stream[start : start + portion])
            assert not reader.is_untouched
        else:
            rest += stream[start : start + portion]
    assert found is not None
    assert found.wants == (A, B)
    assert found.depth.shallows == [C]
    assert (found.depth.deepen, found.filter) == (1, b"blob:none")
    assert b"side-band-64k" in found.capabilities
    assert reader.take_rest() + rest == haves


def test_what_git_gets_holds_nothing_unknown_and_reads_the_same() -> None:
    found = read(
        head(want(A, CAPABILITIES + b" session-id=x$(id) allow-everything"), b"deepen-not refs/heads/x")
    )
    first = found.raw[4:].partition(b"\n")[0]
    assert first == b"want " + A.encode() + b" filter multi_ack_detailed ofs-delta side-band-64k thin-pack"
    again = read(found.raw)
    assert (again.wants, again.depth, again.raw) == (found.wants, found.depth, found.raw)


def test_a_client_may_only_look() -> None:
    found = read(FLUSH)
    assert (found.wants, found.raw) == ((), FLUSH)


def test_relative_depth_is_a_capability() -> None:
    assert read(head(want(A, b"deepen-relative"), b"deepen 2")).depth.relative
    assert not read(head(want(A), b"deepen 2")).depth.relative


def test_depth_is_asked_in_any_way() -> None:
    assert read(head(want(A), b"deepen 2147483647")).depth.deepen == 2**31 - 1
    assert read(head(want(A), b"deepen-since 5")).depth.deepen_since_s == 5
    assert read(head(want(A), b"deepen-not x", b"deepen-not y")).depth.deepen_not == [b"x", b"y"]
    assert read(head(want(A), b"shallow " + B.encode())).depth.shallows == [Oid(B)]


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (head(b"have " + A.encode()), "expected a want"),
        (head(b"done"), "expected a want"),
        (head(b""), "expected a want"),
        (head(want(A[:-1])), "expected an object name"),
        (head(want(A.upper())), "expected an object name"),
        (head(want(A) + b"thin-pack"), "expected an object name"),
        (head(want(A) + b"\0thin-pack"), "expected an object name"),
        (head(want(A, b"thin-pack\0x")), "expected an object name"),
        (head(want(A), want(B, b"thin-pack")), "expected an object name"),
        (head(want(A, b"object-format=sha256")), "mismatched object format"),
        (head(want(A), b"filter blob:none"), "not negotiated"),
        (head(b"filter blob:none", want(A, b"filter")), "not negotiated"),
        (head(want(A, b"filter"), b"filter sparse:oid=HEAD:x"), "is not supported"),
        (head(want(A), b"deepen x"), "invalid depth"),
        (head(want(A), b"deepen 1", b"deepen-not refs/heads/x"), "cannot be used together"),
        (head(want(A), b"shallow x"), "expected an object name"),
        (encode(want(A)) + DELIM, "a delimiter"),
    ],
)
def test_anything_else_is_refused(stream: bytes, complaint: str) -> None:
    with pytest.raises(WrongRequest, match=complaint):
        v0.WantReader().feed(stream)


def test_wants_without_end_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v0, "REQUEST_BYTES_MAX", 1000)
    with pytest.raises(WrongRequest, match="longer than 1000 bytes"):
        v0.WantReader().feed(head(*[want(A)] * 30))
