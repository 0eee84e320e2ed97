"""What a pusher says before the pack."""

import pytest

from mainstay.git.objectnames import ZERO_OID
from mainstay.git.protocol import receive
from mainstay.git.protocol.arguments import WrongRequest
from mainstay.git.protocol.pktline import DELIM, FLUSH, encode

A, B = "a" * 40, "b" * 40


def line(old: str, new: str, name: bytes, capabilities: bytes | None = None) -> bytes:
    said = old.encode() + b" " + new.encode() + b" " + name
    return encode(said if capabilities is None else said + b"\0" + capabilities)


def read(stream: bytes) -> receive.PushRequest:
    found = receive.CommandReader().feed(stream)
    assert found is not None
    return found


PUSH = (
    line(ZERO_OID, A, b"refs/heads/new", b" report-status side-band-64k atomic push-options agent=git/2.39")
    + line(A, B, b"refs/heads/main\n")
    + line(B, ZERO_OID, b"refs/tags/--output=x")
    + FLUSH
    + encode(b"ci.skip")
    + encode(b"a;b,c=d\n")
    + FLUSH
)


@pytest.mark.parametrize("portion", [1, 11, 10_000])
def test_a_push_is_read_and_its_pack_is_left(portion: int) -> None:
    stream = PUSH + b"PACK\0\0\0\2"
    reader, found, rest = receive.CommandReader(), None, b""
    assert reader.is_untouched
    for start in range(0, len(stream), portion):
        if found is None:
            found = reader.feed(stream[start : start + portion])
            assert not reader.is_untouched
        else:
            rest += stream[start : start + portion]
    assert found is not None
    assert [(c.old, c.new, c.name) for c in found.commands] == [
        (ZERO_OID, A, b"refs/heads/new"),
        (A, B, b"refs/heads/main"),
        (B, ZERO_OID, b"refs/tags/--output=x"),
    ]
    assert found.options == (b"ci.skip", b"a;b,c=d")
    assert found.is_atomic
    assert {b"side-band-64k", b"report-status"} <= found.capabilities
    assert reader.take_rest() + rest == b"PACK\0\0\0\2"


def test_a_probe_says_nothing() -> None:
    found = read(FLUSH)
    assert found == receive.PushRequest((), frozenset(), (), ())


def test_without_negotiated_options_the_first_flush_ends() -> None:
    reader = receive.CommandReader()
    found = reader.feed(line(ZERO_OID, A, b"refs/heads/x", b"report-status") + FLUSH + b"PACK")
    assert found is not None
    assert (found.options, reader.take_rest()) == ((), b"PACK")


def test_shallow_edges_are_told() -> None:
    found = read(
        encode(b"shallow " + B.encode() + b"\n") + line(ZERO_OID, A, b"refs/heads/x", b"quiet") + FLUSH
    )
    assert found.shallows == (B,)
    assert found.capabilities == {b"quiet"}
    assert not found.is_atomic


def test_odd_names_are_left_to_be_judged_one_by_one() -> None:
    names = [
        b"x",
        b"refs/heads/a..b",
        b"refs/heads/\xff\xfe",
        b"refs/heads/with space",
        b"refs/heads/a\nb",
        b"HEAD",
    ]
    found = read(b"".join(line(ZERO_OID, A, name) for name in names) + FLUSH)
    assert [command.name for command in found.commands] == names


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (line(A[:-1], B, b"refs/heads/x"), "expected old/new/ref"),
        (line(A.upper(), B, b"refs/heads/x"), "expected old/new/ref"),
        (encode(A.encode() + b" " + B.encode()), "expected old/new/ref"),
        (encode(A.encode() + b"\t" + B.encode() + b" refs/heads/x"), "expected old/new/ref"),
        (line(A, B, b""), "expected old/new/ref"),
        (line(A, B, b"\n"), "expected old/new/ref"),
        (encode(b""), "expected old/new/ref"),
        (encode(b"hello"), "expected old/new/ref 'hello'".replace("ref ", "ref, got ")),
        (
            line(A, B, b"refs/heads/x", b"atomic") + line(A, B, b"refs/heads/y", b"atomic"),
            "do not follow the first",
        ),
        (line(A, B, b"refs/heads/x", b"atomic\0quiet"), "do not follow the first"),
        (line(A, B, b"refs/heads/x", b"object-format=sha256"), "unsupported object format"),
        (encode(b"push-cert\0report-status"), "signed pushes are not supported"),
        (encode(b"push-cert"), "signed pushes are not supported"),
        (encode(b"shallow x"), "expected an object name"),
        (line(A, B, b"refs/heads/x") + DELIM, "a delimiter"),
        (line(A, B, b"refs/heads/" + b"x" * 4090), "longer than 4096 bytes"),
    ],
)
def test_anything_else_is_refused(stream: bytes, complaint: str) -> None:
    with pytest.raises(WrongRequest, match=complaint):
        receive.CommandReader().feed(stream)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([b"x"] * 101, "more than 100 push options"),
        ([b"x" * 1025], "longer than 1024 bytes"),
        ([b"a\0b"], "line feed or a NUL"),
        ([b"a\nb"], "line feed or a NUL"),
        ([b"a\n\n"], "line feed or a NUL"),
    ],
)
def test_options_that_could_break_a_receiver_are_refused(options: list[bytes], complaint: str) -> None:
    start = line(ZERO_OID, A, b"refs/heads/x", b"push-options") + FLUSH
    with pytest.raises(WrongRequest, match=complaint):
        receive.CommandReader().feed(start + b"".join(map(encode, options)))


@pytest.mark.parametrize(
    ("limit", "stream", "complaint"),
    [
        ("COMMANDS_MAX", line(A, B, b"refs/heads/x") * 4, "more than 3 ref updates"),
        ("SHALLOWS_MAX", encode(b"shallow " + A.encode()) * 4, "more than 3 shallow"),
    ],
)
def test_a_push_has_limits(
    limit: str, stream: bytes, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, limit, 3)
    with pytest.raises(WrongRequest, match=complaint):
        receive.CommandReader().feed(stream)


def test_the_commands_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "COMMAND_BYTES_MAX", 300)
    with pytest.raises(WrongRequest, match="longer than 300 bytes"):
        receive.CommandReader().feed(line(A, B, b"refs/heads/x") * 4)
