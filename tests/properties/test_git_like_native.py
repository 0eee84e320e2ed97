"""We and native git, given the same bytes: whatever we accept, git accepts and reads the same way.

We may be stricter; where, is written in `STRICTER` and nowhere else.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.foundation.errors import Invalid
from mainstay.git.native.run import Finished, GitPlace, run
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.git.protocol import receive, v0, v2
from mainstay.git.protocol.advertise import (
    Head,
    RefLine,
    encode_ref_lines,
    receive_pack_refs,
    upload_pack_refs,
)
from mainstay.git.protocol.pktline import DELIM, FLUSH, MalformedPkt, encode, pkt_length
from mainstay.git.refs import check_pushed_name, check_ref_name
from support.native_git import EMPTY_PACK, annotated_tag, bare_repository, commit, set_refs

PIECES_OF_NAMES = [
    b"a",
    b"b",
    b".",
    b"..",
    b"/",
    b"@",
    b"{",
    b"@{",
    b".lock",
    b" ",
    b"~",
    b"\x7f",
    b"\xff",
    b"-",
]
PIECES_OF_NAMES += [b"*", b"\\", b"\x01", b"\t", b"^", b":", b"?", b"[", b"lock", b"refs/", b"x" * 30]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> GitPlace:
    return bare_repository(tmp_path_factory.mktemp("native") / "repository.git")


@pytest.fixture(scope="module")
def tip(place: GitPlace) -> Oid:
    tip = commit(place)
    tag = annotated_tag(place, tip, "v1")
    names = [b"refs/heads/main", b"refs/heads/a", b"refs/heads/main2", b"refs/notes/x", b"refs/tags/light"]
    set_refs(place, {**dict.fromkeys(names, tip), b"refs/tags/v1": tag, b"refs/tags/v1.1": tag})
    return tip


def service(
    place: GitPlace, name: str, request: bytes, *, version: int = 0, flags: tuple[str, ...] = ()
) -> Finished:
    """Give `request` to native git and return what it did."""
    environment = {"GIT_PROTOCOL": f"version={version}"} if version else {}
    arguments = [name, *(flags or ("--stateless-rpc",)), str(place.git_dir)]
    config = {"receive.advertisePushOptions": "true", "uploadpack.allowFilter": "true"}
    return run(place, arguments, stdin=request, environment=environment, config=config, check=False)


def some_names(seed: int, count: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    for _ in range(count):
        yield b"".join(chance.choices(PIECES_OF_NAMES, k=chance.randint(1, 6)))


def test_names_for_check_ref_format() -> None:
    place = GitPlace(git_dir=Path("/nonexistent"))
    seen = {True: 0, False: 0}
    for name in some_names(1, 300):
        legal = run(
            place, ["check-ref-format", b"/" + name], check=False
        ).exit_code  # a safe operand, never legal
        assert legal == 1
        full = b"refs/" + name
        if re.match(rb"refs/[^\x00-\x20\x7f~^:?*\[\\]+\Z", full):  # what may stand in an argument at all
            is_legal = run(place, ["check-ref-format", full], check=False).exit_code == 0
            assert is_legal == (check_ref_name(full) is None), full
            seen[is_legal] += 1
        else:
            assert check_ref_name(full) is not None
    assert min(seen.values()) > 30


def test_names_for_receive_pack(tmp_path: Path) -> None:
    """Thousands in one process: it answers `funny refname` for each that has not the form."""
    place = bare_repository(tmp_path / "names.git")
    tip = commit(place)
    names = [b"refs/" + name for name in dict.fromkeys(some_names(2, 4000)) if b"\n" not in name]
    assert len(names) > 2000
    lines = [f"{ZERO_OID} {tip} ".encode() + name for name in names]
    lines[0] += b"\0report-status"
    answer = service(place, "receive-pack", b"".join(map(encode, lines)) + FLUSH + EMPTY_PACK)
    funny = set(re.findall(rb"ng (refs/[^\n]*) funny refname\n", answer.stdout))
    ours = {name for name in names if check_pushed_name(name) is not None}
    assert funny == ours
    assert len(names) > len(funny) > 500


@pytest.mark.parametrize(
    "prefix",
    [
        b"-001",
        b"+00a",
        b" 00a",
        b"00a ",
        b"0x0a",
        b"1_00",
        b"988\n",
        b"00g0",
        b"\0\0\0\0",
        b"0003",
        b"fff4",
        b"ffff",
    ],
)
def test_lengths_that_neither_reads(place: GitPlace, prefix: bytes) -> None:
    stream = prefix + b"x" * 70_000
    with pytest.raises(MalformedPkt):
        pkt_length(prefix)
    assert b"bad line length" in service(place, "receive-pack", stream).stderr
    assert b"bad line length" in service(place, "upload-pack", stream).stderr


def test_lengths_that_only_git_reads(place: GitPlace) -> None:
    """The largest packet is 65520 bytes by the book; git takes three more, and we do not."""
    for prefix in (b"fff1", b"fff3"):
        with pytest.raises(MalformedPkt):
            pkt_length(prefix)
        assert b"bad line length" not in service(place, "receive-pack", prefix + b"x" * 70_000).stderr


def test_refs_are_advertised_as_git_does(place: GitPlace, tip: Oid) -> None:
    refs = listed(place)
    flags = ("--stateless-rpc", "--http-backend-info-refs")
    theirs = service(place, "upload-pack", b"", flags=flags).stdout
    ours = b"".join(upload_pack_refs(refs, Head(RefName(b"refs/heads/main"), tip), stateless=True))
    assert without_capabilities(ours) == without_capabilities(theirs)
    theirs = service(place, "receive-pack", b"", flags=flags).stdout
    assert without_capabilities(b"".join(receive_pack_refs(refs))) == without_capabilities(theirs)
    ours = capabilities_of(
        b"".join(upload_pack_refs(refs, Head(RefName(b"refs/heads/main"), tip), stateless=True))
    )
    theirs_too = capabilities_of(service(place, "upload-pack", b"", flags=flags).stdout)
    checked_by_us = {b"allow-tip-sha1-in-want", b"allow-reachable-sha1-in-want"}
    assert {word for word in ours if not word.startswith(b"agent=")} - checked_by_us <= theirs_too


def listed(place: GitPlace) -> list[RefLine]:
    """The refs as native git tells them."""
    asked = ["for-each-ref", "--format=%(refname) %(objectname) %(*objectname)"]
    rows = [line.split(b" ") for line in run(place, asked).stdout.splitlines()]
    return [
        (RefName(name), Oid(oid.decode()), Oid(peeled.decode()) if peeled else None)
        for name, oid, peeled in rows
    ]


def without_capabilities(stream: bytes) -> list[bytes]:
    """The lines of an advertisement, without lengths and capabilities."""
    lines = []
    while not stream.startswith(FLUSH):
        length = int(stream[:4], 16)
        lines.append(stream[4:length].rstrip(b"\n").partition(b"\0")[0])
        stream = stream[length:]
    assert stream == FLUSH
    return lines


def capabilities_of(stream: bytes) -> set[bytes]:
    return set(stream[4 : int(stream[:4], 16)].rstrip(b"\n").partition(b"\0")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [b"peel"],
        [b"symrefs"],
        [b"peel", b"symrefs", b"unborn"],
        [b"ref-prefix refs/heads/"],
        [b"peel", b"ref-prefix refs/tags/v", b"ref-prefix refs/tags/"],
        [b"symrefs", b"ref-prefix HEAD"],
        [b"ref-prefix refs/heads/main2", b"ref-prefix refs/heads/main", b"ref-prefix zz"],
    ],
)
def test_ls_refs_answers_byte_for_byte(place: GitPlace, tip: Oid, arguments: list[bytes]) -> None:
    request = encode(b"command=ls-refs\n") + DELIM + b"".join(encode(line) for line in arguments) + FLUSH
    theirs = service(place, "upload-pack", request, version=2)
    assert theirs.exit_code == 0
    reader = v2.RequestReader()
    reader.feed(request)
    asked = reader.next()
    assert isinstance(asked, v2.LsRefs)
    assert (
        b"".join(v2.ls_refs_response(asked, listed(place), Head(RefName(b"refs/heads/main"), tip)))
        == theirs.stdout
    )


def test_ls_refs_of_an_unborn_head(tmp_path: Path) -> None:
    place = bare_repository(tmp_path / "empty.git")
    request = encode(b"command=ls-refs") + DELIM + encode(b"symrefs") + encode(b"unborn") + FLUSH
    asked = v2.LsRefs(peel=False, symrefs=True, unborn=True, prefixes=())
    ours = b"".join(v2.ls_refs_response(asked, [], Head(RefName(b"refs/heads/main"), None)))
    assert ours == service(place, "upload-pack", request, version=2).stdout


STRICTER = re.compile(
    rb"(want|have|shallow) [0-9a-f]{40}[^\n]"  # something behind an object name
    rb"|[0-9a-f]{40}\n\n"
    rb"|(?=[0-9a-fA-F]{40})[0-9a-f]*[A-F]"  # upper case
    rb"|deepen(-since)? (0|\d*[^\d\n]|\d+\n\n)"  # numbers that are not plain
    rb"|deepen \d.*deepen-|deepen-.*deepen \d"  # depths of two kinds when nothing is wanted
    rb"|\0"
    rb"|filter "  # filters given twice, or of kinds we do not offer
    rb"|object-format"  # in a place where git does not look
    rb"|object-info|push-cert",  # not offered
    re.DOTALL,
)
"""Where we refuse and git does not."""

ABOUT_MORE = rb"not our ref|not a ref|no commits selected|ambiguous deepen-not"
"""Complaints of git that are about what is in the repository, not about the form of the request."""


def mutated(chance: random.Random, stream: bytes) -> bytes:
    """Change one byte, drop some, double some, or leave all as it is."""
    kind, at = chance.randrange(5), chance.randrange(len(stream))
    if kind == 0:
        return stream[:at] + bytes([chance.choice(b"\0\n 0aAfFzg-+_=")]) + stream[at + 1 :]
    if kind == 1:
        return stream[:at] + stream[at + chance.randint(1, 4) :]
    if kind == 2:
        return stream[: at + 4] + stream[at:]
    return stream


def agrees(accepted: bool, theirs: Finished, request: bytes, about_more: bytes) -> bool:
    """Whether both took the request, or both refused it, or we were stricter where we say so.

    `about_more` matches a complaint that comes after git has taken the request.
    """
    if theirs.exit_code == 0:
        return accepted or STRICTER.search(request) is not None
    return not accepted or re.search(about_more, theirs.stderr + theirs.stdout) is not None


FETCH_LINES = ["thin-pack", "no-progress", "include-tag", "ofs-delta", "done", "wait-for-done", "deepen 2"]
FETCH_LINES += ["deepen-since 1", "deepen-not refs/heads/main", "deepen-relative", "filter blob:none"]
LS_REFS_LINES = ["peel", "symrefs", "unborn", "ref-prefix refs/", "ref-prefix HEAD", "ref-prefix "]
WRONG_LINES = ["nonsense", "want", "peel ", "sideband-all", "", "want-ref refs/heads/main", "have  "]
KEYS = [
    b"agent=x",
    b"object-format=sha1",
    b"server-option=y",
    b"agent",
    b"agent=x",
    b"session-id=z",
    b"ls-refs",
]


def some_request(chance: random.Random, tip: Oid) -> bytes:
    """A request of version 2, right more often than wrong."""
    command, lines = chance.choice(
        [
            ("fetch", [f"want {tip}", f"have {tip}", f"shallow {tip}", *FETCH_LINES]),
            ("fetch", [f"want {tip}", f"have {tip}", *FETCH_LINES]),
            ("ls-refs", LS_REFS_LINES),
            (chance.choice(["push", "object-info", "", "fetch ", "fetch=1"]), FETCH_LINES),
        ]
    )
    lines = chance.choices(lines, k=chance.randint(1, 4)) + chance.choices(["", *WRONG_LINES], [30, *[1] * 7])
    said = [encode(line.encode() + chance.choice([b"", b"\n"])) for line in lines if line]
    keys = encode(f"command={command}".encode()) + encode(chance.choice(KEYS))
    return mutated(chance, keys + DELIM + b"".join(said) + FLUSH)


def test_requests_of_version_2(place: GitPlace, tip: Oid) -> None:
    chance, taken = random.Random(3), 0
    for _ in range(300):
        stream = some_request(chance, tip)
        accepted = is_accepted_v2(stream)
        if accepted is None:
            continue
        theirs = service(place, "upload-pack", stream, version=2)
        taken += accepted
        assert agrees(accepted, theirs, stream, ABOUT_MORE), (stream, theirs, accepted)
    assert 50 < taken < 250


def is_accepted_v2(stream: bytes) -> bool | None:
    """None: the request is cut off. Git then ends, sometimes without a complaint."""
    reader = v2.RequestReader()
    try:
        reader.feed(stream)
        return True if reader.next() is not None else None
    except Invalid:
        return False


def test_wants_of_version_0(place: GitPlace, tip: Oid) -> None:
    chance, taken = random.Random(4), 0
    for _ in range(250):
        capabilities = b" ".join(chance.sample([b"", b"ofs-delta", b"filter", b"side-band-64k", b"x=y"], 2))
        pool = [
            f"want {tip}\n",
            f"shallow {tip}",
            "deepen 1",
            "deepen-since 1",
            "filter blob:none",
            "nonsense",
        ]
        lines = [
            f"want {tip} ".encode() + capabilities,
            *(line.encode() for line in chance.choices(pool, k=2)),
        ]
        stream = mutated(chance, b"".join(map(encode, lines)) + FLUSH)
        accepted, rest = is_accepted_v0(stream)
        theirs = service(place, "upload-pack", stream + encode(b"done\n"))
        taken += accepted
        assert rest or agrees(accepted, theirs, stream, ABOUT_MORE), (stream, theirs, accepted)
    assert 20 < taken < 200


def is_accepted_v0(stream: bytes) -> tuple[bool, bytes]:
    reader = v0.WantReader()
    try:
        found = reader.feed(stream)
    except Invalid:
        return False, b""
    return found is not None, reader.take_rest()


def test_commands_of_a_push(place: GitPlace, tip: Oid) -> None:
    """Deletions of refs that are not there: nothing changes, and the report tells how git read the names."""
    chance, taken = random.Random(5), 0
    for _ in range(250):
        names = chance.choices(
            [b"refs/heads/gone", b"refs/x y/z", b"refs/\xff/a", b"HEAD", b"refs/tags/-n"], k=2
        )
        lines = [f"{tip} {ZERO_OID} ".encode() + name for name in names]
        lines[0] += b"\0report-status" + chance.choice([b"", b" quiet", b" push-options", b" atomic"])
        options = encode(b"option") + FLUSH if b"push-options" in lines[0] else b""
        shallow = encode(f"shallow {tip}".encode()) if chance.random() < 0.2 else b""
        stream = mutated(chance, shallow + b"".join(map(encode, lines)) + FLUSH + options)
        ours = names_read(stream)
        theirs = service(place, "receive-pack", stream)
        taken += ours is not None
        assert agrees(ours is not None, theirs, stream, rb"unpack "), (stream, theirs, ours)
        if ours and b"report-status" in stream and theirs.stdout:
            reported = set(re.findall(rb"(?:ok|ng) (refs/x y/z|\S+)", theirs.stdout))
            assert reported == {name if name == b"refs/x y/z" else name.split()[0] for name in ours}
    assert 20 < taken < 200


def names_read(stream: bytes) -> list[RefName] | None:
    try:
        found = receive.CommandReader().feed(stream)
    except Invalid:
        return None
    return None if found is None else [command.name for command in found.commands]


def test_lines_kept_are_lines_sent(place: GitPlace, tip: Oid) -> None:
    refs, head = listed(place), Head(RefName(b"refs/heads/main"), tip)
    kept = upload_pack_refs(refs, head, stateless=True, lines=encode_ref_lines(refs))
    assert kept == upload_pack_refs(refs, head, stateless=True)
