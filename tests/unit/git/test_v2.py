"""Version 2: requests read strictly, `ls-refs` answered by bisection."""

import pytest

from mainstay.git.objectnames import Oid, RefName
from mainstay.git.protocol import v2
from mainstay.git.protocol.advertise import Head, RefLine
from mainstay.git.protocol.arguments import WrongRequest
from mainstay.git.protocol.pktline import DELIM, FLUSH, RESPONSE_END, encode

A, B, C = Oid("a" * 40), Oid("b" * 40), Oid("c" * 40)
MAIN = RefName(b"refs/heads/main")


def request(*lines: bytes, keys: tuple[bytes, ...] = ()) -> bytes:
    """A request as git writes it: the command first, then `keys`, then the arguments."""
    command, *arguments = lines
    head = b"".join(encode(key + b"\n") for key in (b"command=" + command, *keys))
    return head + DELIM + b"".join(encode(line + b"\n") for line in arguments) + FLUSH


def read(stream: bytes) -> v2.Request:
    reader = v2.RequestReader()
    reader.feed(stream)
    found = reader.next()
    assert found is not None, "the request is not complete"
    return found


def fetch(*arguments: bytes) -> v2.Fetch:
    found = read(request(b"fetch", *arguments))
    assert isinstance(found, v2.Fetch)
    return found


def test_ls_refs_is_read() -> None:
    asked = read(
        request(b"ls-refs", b"peel", b"symrefs", b"unborn", b"ref-prefix refs/heads/", b"ref-prefix HEAD")
    )
    assert asked == v2.LsRefs(peel=True, symrefs=True, unborn=True, prefixes=(b"refs/heads/", b"HEAD"))
    assert read(encode(b"command=ls-refs\n") + FLUSH) == v2.LsRefs(False, False, False, ())


def test_a_whole_request_is_read_as_the_reader_reads_it_and_nothing_else_is() -> None:
    asked = request(b"ls-refs", b"peel", b"ref-prefix refs/heads/")
    for _ in range(2):  # the second time it is remembered
        assert v2.whole_request(asked) == read(asked)
        assert v2.whole_request(FLUSH) == v2.Goodbye()
        assert v2.whole_request(b"") is None
        assert v2.whole_request(asked[:-1]) is None
        assert v2.whole_request(asked + FLUSH) is None
        with pytest.raises(WrongRequest):
            v2.whole_request(request(b"ls-refs", b"everything"))


def test_so_many_prefixes_are_all_ignored() -> None:
    lines = [b"ref-prefix %d" % number for number in range(v2.PREFIXES_MAX)]
    few, many = read(request(b"ls-refs", *lines[:-1])), read(request(b"ls-refs", *lines))
    assert isinstance(few, v2.LsRefs)
    assert isinstance(many, v2.LsRefs)
    assert (len(few.prefixes), len(many.prefixes)) == (v2.PREFIXES_MAX - 1, 0)


def test_a_fetch_is_read() -> None:
    asked = fetch(
        b"thin-pack",
        b"no-progress",
        b"include-tag",
        b"ofs-delta",
        b"want " + A.encode(),
        b"want " + B.encode(),
        b"have " + C.encode(),
        b"shallow " + C.encode(),
        b"deepen 3",
        b"deepen-relative",
        b"filter blob:limit=10k",
        b"done",
    )
    assert (asked.wants, asked.haves, asked.shallows) == ((A, B), (C,), (C,))
    assert (asked.depth.deepen, asked.depth.relative, asked.filter) == (3, True, b"blob:limit=10k")
    assert all((asked.thin_pack, asked.no_progress, asked.include_tag, asked.ofs_delta, asked.done))
    assert not asked.wait_for_done


def test_what_is_handed_to_git_is_written_again() -> None:
    arguments = (b"want " + A.encode(), b"deepen-since 1700000000", b"deepen-not refs/heads/x", b"done")
    keys = (b"agent=git/2.39\x1b[31m", b"object-format=sha1", b"server-option=secret")
    asked = read(request(b"fetch", *arguments, keys=keys))
    assert isinstance(asked, v2.Fetch)
    assert asked.raw == request(b"fetch", *arguments, keys=(b"object-format=sha1",))
    assert read(asked.raw) == asked


def test_requests_follow_each_other_in_any_portions() -> None:
    stream = request(b"ls-refs", b"peel") + request(b"fetch", b"want " + A.encode()) + FLUSH
    reader, seen = v2.RequestReader(), []
    assert reader.is_between_requests
    for byte in stream:
        reader.feed(bytes([byte]))
        if (found := reader.next()) is not None:
            assert reader.is_between_requests
            seen.append(type(found))
        elif byte == stream[40]:
            assert not reader.is_between_requests
    assert seen == [v2.LsRefs, v2.Fetch, v2.Goodbye]


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (request(b"push"), "invalid command 'push'"),
        (request(b"ls-refs=1"), "invalid command 'ls-refs=1'"),
        (encode(b"command=\n") + FLUSH, "unknown capability 'command='"),
        (encode(b"command\n") + FLUSH, "unknown capability"),
        (encode(b"command=fetch") + encode(b"command=fetch") + FLUSH, "requested after command 'fetch'"),
        (request(b"fetch", keys=(b"ls-refs",)), "unknown capability 'ls-refs'"),
        (request(b"fetch", keys=(b"agent\0x",)), "unknown capability"),
        (request(b"fetch", keys=(b"object-format=sha256",)), "mismatched object format"),
        (request(b"fetch", keys=(b"object-format",)), "mismatched object format"),
        (encode(b"agent=x") + FLUSH, "no command requested"),
        (DELIM + FLUSH, "no command requested"),
        (request(b"ls-refs", b"want " + A.encode()), "unexpected line: 'want aaaa"),
        (request(b"ls-refs", b"ref-prefix"), "unexpected line: 'ref-prefix'"),
        (request(b"ls-refs", b"ref-prefix a\0b"), "unexpected line"),
        (request(b"fetch", b"want-ref refs/heads/main"), "unexpected line: 'want-ref"),
        (request(b"fetch", b"sideband-all"), "unexpected line"),
        (request(b"fetch", b"packfile-uris https"), "unexpected line"),
        (request(b"fetch", b"want " + A.encode() + b"junk"), "expected an object name"),
        (request(b"fetch", b"want " + A.encode() + b"\n"), "expected an object name"),
        (request(b"fetch", b"want " + A.upper().encode()), "expected an object name"),
        (request(b"fetch", b"have " + b"a" * 39), "expected an object name"),
        (request(b"fetch", b"want  " + b"a" * 39), "expected an object name"),
        (request(b"fetch", b"deepen 0"), "invalid depth"),
        (request(b"fetch", b"deepen 1", b"deepen-since 5"), "cannot be used together"),
        (request(b"fetch", b"deepen -1"), "invalid depth"),
        (request(b"fetch", b"deepen 0x10"), "invalid depth"),
        (request(b"fetch", b"deepen 1_0"), "invalid depth"),
        (request(b"fetch", b"deepen 5\n"), "invalid depth"),
        (request(b"fetch", "deepen ٣".encode()), "invalid depth"),
        (request(b"fetch", b"deepen 2147483648"), "invalid depth"),
        (request(b"fetch", b"deepen-not --all"), "invalid depth"),
        (request(b"fetch", b"deepen-not "), "invalid depth"),
        (request(b"fetch", b"filter sparse:oid=main:x"), "filter 'sparse:oid=main:x' is not supported"),
        (request(b"fetch", b"filter combine:blob:none+sparse:oid=x"), "is not supported"),
        (request(b"fetch", b"filter blob:none", b"filter tree:0"), "unexpected line"),
        (request(b"fetch", b"done", b"")[:-4] + DELIM + FLUSH, "expected a flush"),
        (encode(b"command=fetch") + RESPONSE_END, "expected a flush"),
        (request(b"fetch", b""), "unexpected line: ''"),
    ],
)
def test_anything_else_is_refused(stream: bytes, complaint: str) -> None:
    reader = v2.RequestReader()
    reader.feed(stream)
    with pytest.raises(WrongRequest, match=complaint):
        reader.next()


@pytest.mark.parametrize(
    "chosen", [b"blob:none", b"blob:limit=1m", b"tree:0", b"object:type=commit", b"combine:blob:none+tree:3"]
)
def test_useful_filters_pass(chosen: bytes) -> None:
    assert fetch(b"filter " + chosen).filter == chosen


def test_a_request_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v2, "REQUEST_BYTES_MAX", 1000)
    reader = v2.RequestReader()
    reader.feed(request(b"fetch", *[b"have " + A.encode()] * 18)[:-4])
    assert reader.next() is None
    reader.feed(encode(b"have " + A.encode()) * 3)
    with pytest.raises(WrongRequest, match="longer than 1000 bytes"):
        reader.next()


def test_capabilities_without_end_are_ended() -> None:
    reader = v2.RequestReader()
    reader.feed(encode(b"command=fetch") + encode(b"server-option=x") * (v2.CAPABILITIES_MAX + 1))
    with pytest.raises(WrongRequest, match="more than 1000 capabilities"):
        reader.next()


REFS: list[RefLine] = [
    (RefName(name), A, B if b"tags" in name else None)
    for name in (b"refs/heads/a", b"refs/heads/main", b"refs/heads/main2", b"refs/tags/v1", b"refs/tags/v2")
]


def answer(head: Head | None = None, **options: object) -> list[bytes]:
    asked = v2.LsRefs(**{"peel": False, "symrefs": False, "unborn": False, "prefixes": (), **options})  # type: ignore[arg-type]
    stream = b"".join(v2.ls_refs_response(asked, REFS, head))
    kept = v2.encode_ls_refs_lines(REFS, peel=asked.peel)
    assert b"".join(v2.ls_refs_response(asked, REFS, head, lines=kept)) == stream
    lines = []
    while stream != FLUSH:
        length = int(stream[:4], 16)
        lines.append(stream[4:length])
        stream = stream[length:]
    return lines


def test_all_refs_are_listed_and_head_first() -> None:
    lines = answer(Head(MAIN, A), peel=True, symrefs=True)
    assert lines[0] == b"a" * 40 + b" HEAD symref-target:refs/heads/main\n"
    assert lines[1] == b"a" * 40 + b" refs/heads/a\n"
    assert lines[-1] == b"a" * 40 + b" refs/tags/v2 peeled:" + b"b" * 40 + b"\n"
    assert len(lines) == 6
    assert answer(Head(MAIN, A))[0] == b"a" * 40 + b" HEAD\n"


def test_an_unborn_head_is_told_to_who_asked() -> None:
    head = Head(RefName(b"refs/heads/new"), None)
    assert answer(head, symrefs=True, unborn=True)[0] == b"unborn HEAD symref-target:refs/heads/new\n"
    assert answer(head, symrefs=True) == answer(head, unborn=True) == answer()


@pytest.mark.parametrize(
    ("prefixes", "names"),
    [
        ((b"refs/heads/main",), [b"refs/heads/main", b"refs/heads/main2"]),
        ((b"refs/tags/", b"refs/heads/main2", b"refs/heads/main"), [r[0] for r in REFS[1:]]),
        ((b"refs/", b"refs/heads/"), [r[0] for r in REFS]),
        ((b"",), [b"HEAD", *(r[0] for r in REFS)]),
        ((b"HE",), [b"HEAD"]),
        ((b"HEADS", b"refs/heads/b", b"zzz", b"\xff"), []),
        ((b"refs/tags/v1", b"HEAD", b"refs/tags/v1"), [b"HEAD", b"refs/tags/v1"]),
    ],
)
def test_prefixes_choose_by_name_in_order_and_once(prefixes: tuple[bytes, ...], names: list[bytes]) -> None:
    assert [line.split()[1] for line in answer(Head(MAIN, A), prefixes=prefixes)] == names
