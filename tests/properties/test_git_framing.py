"""Laws of the protocol's framing, for any bytes in any portions."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.git.protocol import receive, v0, v2
from mainstay.git.protocol.advertise import Head, RefLine
from mainstay.git.protocol.arguments import WrongRequest
from mainstay.git.protocol.pktline import (
    DELIM,
    FLUSH,
    RESPONSE_END,
    Delim,
    Flush,
    MalformedPkt,
    PktReader,
    ResponseEnd,
    encode,
    pkt_length,
)
from mainstay.git.protocol.services import Service
from mainstay.git.protocol.sideband import frames
from mainstay.git.protocol.ssh_command import UnknownSshCommand, parse

LAW = settings(derandomize=True, deadline=None, max_examples=300)

MARKS = {FLUSH: Flush, DELIM: Delim, RESPONSE_END: ResponseEnd}
PACKETS = st.lists(
    st.one_of(st.binary(max_size=300), st.sampled_from([Flush, Delim, ResponseEnd])), max_size=20
)
CUTS = st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=20)
OIDS = st.binary(min_size=20, max_size=20).map(lambda raw: Oid(raw.hex()))
NAMES = st.binary(min_size=1, max_size=60).map(lambda tail: b"refs/" + re.sub(rb"[\0\n]", b"x", tail))


def portions(stream: bytes, cuts: list[int]) -> list[bytes]:
    """`stream` in pieces of the given sizes, over and over."""
    pieces, at, turn = [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        pieces.append(stream[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def written(packets: list[object]) -> bytes:
    marks = {mark: word for word, mark in MARKS.items()}
    return b"".join(encode(packet) if isinstance(packet, bytes) else marks[packet] for packet in packets)


@LAW
@given(PACKETS, CUTS, st.binary(max_size=3))
def test_what_is_written_is_read(packets: list[object], cuts: list[int], rest: bytes) -> None:
    reader, seen = PktReader(), []
    for piece in portions(written(packets), cuts):
        reader.feed(piece)
        while (packet := reader.next()) is not None:
            seen.append(packet if isinstance(packet, bytes) else type(packet))
    reader.feed(rest)
    assert seen == packets
    assert reader.take_rest() == rest


@LAW
@given(
    st.one_of(st.binary(max_size=6), st.text("0123456789abcdefABCDEFgx_+- \n\0", max_size=5).map(str.encode))
)
def test_a_length_is_four_hexadecimal_digits_and_nothing_else(prefix: bytes) -> None:
    fits = re.fullmatch(rb"[0-9a-fA-F]{4}", prefix) and int(prefix, 16) <= 65520 and int(prefix, 16) != 3
    try:
        length: int | None = pkt_length(prefix)
    except MalformedPkt:
        length = None
    assert length == (int(prefix, 16) if fits else None)


@LAW
@given(st.integers(1, 3), st.binary(max_size=5000), st.integers(1, 999))
def test_a_side_band_brings_the_data_over(band: int, data: bytes, limit: int) -> None:
    reader = PktReader()
    reader.feed(frames(band, data, data_bytes_max=limit))
    parts = []
    while (packet := reader.next()) is not None:
        assert isinstance(packet, bytes)
        assert packet[0] == band
        assert 2 <= len(packet) <= limit + 1
        parts.append(packet[1:])
    assert b"".join(parts) == data


@LAW
@given(st.lists(st.tuples(OIDS, OIDS, NAMES), min_size=1, max_size=20), CUTS, st.binary(max_size=50))
def test_the_commands_of_a_push_arrive(
    commands: list[tuple[Oid, Oid, bytes]], cuts: list[int], pack: bytes
) -> None:
    stream = b"".join(encode(f"{old} {new} ".encode() + name) for old, new, name in commands) + FLUSH + pack
    reader, found, rest = receive.CommandReader(), None, b""
    for piece in portions(stream, cuts):
        if found is None:
            found = reader.feed(piece)
        else:
            rest += piece
    assert found is not None
    assert [(c.old, c.new, c.name) for c in found.commands] == commands
    assert reader.take_rest() + rest == pack


LINES = st.lists(
    st.one_of(
        OIDS.map(lambda oid: b"want " + oid.encode()),
        OIDS.map(lambda oid: b"have " + oid.encode()),
        OIDS.map(lambda oid: b"shallow " + oid.encode()),
        st.sampled_from(
            [b"done", b"thin-pack", b"deepen 3", b"deepen-since 9", b"filter tree:0", b"ofs-delta"]
        ),
        st.binary(max_size=20),
    ),
    max_size=12,
)


@LAW
@given(LINES)
def test_a_fetch_written_again_is_the_same_fetch(lines: list[bytes]) -> None:
    stream = encode(b"command=fetch") + DELIM + b"".join(encode(line + b"\n") for line in lines) + FLUSH
    reader = v2.RequestReader()
    reader.feed(stream)
    try:
        first = reader.next()
    except WrongRequest:
        return
    assert isinstance(first, v2.Fetch)
    reader.feed(first.raw)
    assert reader.next() == first


@LAW
@given(st.lists(OIDS, min_size=1, max_size=5), LINES)
def test_wants_written_again_are_the_same_wants(wants: list[Oid], lines: list[bytes]) -> None:
    head = [
        f"want {oid}{' filter deepen-relative x=1' if at == 0 else ''}".encode()
        for at, oid in enumerate(wants)
    ]
    try:
        first = v0.WantReader().feed(b"".join(encode(line + b"\n") for line in head + lines) + FLUSH)
    except WrongRequest:
        return
    assert first is not None
    again = v0.WantReader().feed(first.raw)
    assert again is not None
    assert (again.wants, again.depth, again.filter, again.raw) == (
        first.wants,
        first.depth,
        first.filter,
        first.raw,
    )


SHORT_NAMES = st.text("ab/\xff", max_size=5).map(lambda text: RefName(text.encode("latin-1")))


@LAW
@given(st.sets(SHORT_NAMES, max_size=30), st.lists(SHORT_NAMES, max_size=6), st.booleans())
def test_bisection_finds_what_a_plain_filter_finds(
    names: set[RefName], prefixes: list[RefName], born: bool
) -> None:
    refs: list[RefLine] = [(name, ZERO_OID, None) for name in sorted(names)]
    asked = v2.LsRefs(peel=True, symrefs=False, unborn=False, prefixes=tuple(prefixes))
    reader = PktReader()
    reader.feed(b"".join(v2.ls_refs_response(asked, refs, Head(RefName(b"x"), ZERO_OID) if born else None)))
    found = []
    while not isinstance(packet := reader.next(), Flush):
        assert isinstance(packet, bytes)
        found.append(packet[41:-1])
    everything = ([b"HEAD"] if born else []) + sorted(names)
    assert found == [name for name in everything if not prefixes or name.startswith(tuple(prefixes))]


def quoted(path: str) -> str:
    """As git's client quotes a path for the shell at the other end."""
    return "'" + path.replace("'", "'\\''").replace("!", "'\\!'") + "'"


@LAW
@given(
    st.text(st.characters(blacklist_characters="\0\n", blacklist_categories=["Cs"]), min_size=1, max_size=50)
)
def test_a_quoted_path_is_understood(path: str) -> None:
    found = parse(f"git-receive-pack {quoted(path)}")
    assert (found.service, found.path) == (Service.RECEIVE_PACK, path)


@LAW
@given(st.text(max_size=20))
def test_a_path_outside_quotes_holds_nothing_a_shell_would_read(tail: str) -> None:
    try:
        path = parse(f"git-upload-pack {tail}").path
    except UnknownSshCommand:
        return
    assert re.fullmatch(r"[A-Za-z0-9_@%+=:,./~-]+", path) or "'" in tail or "\\" in tail
