"""What travels between nodes: it comes out as it went in, and nothing else is taken for it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.access.actors import Actor, Kind
from mainstay.access.policy import ProtectedRef, PushRules
from mainstay.access.roles import Role
from mainstay.foundation.errors import (
    Conflict,
    Invalid,
    MainstayError,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.repository.push import PushContext
from mainstay.repository.questions import Addition, Ahead, CommitNamed, History, Objects
from mainstay.repository.remote import faults, frames
from mainstay.repository.remote.calls import Browse, ReceivePack, UploadPack, Write
from mainstay.repository.remote.frames import BadFrame, Frame, FrameReader, data_frames, frame
from mainstay.repository.remote.questions import NotUnderstood, facts_of_refused, refused_from
from mainstay.repository.remote.strict import BadFields, fields_of
from mainstay.storage.ledger import RefChange

TEXT = st.text(max_size=40)
ROLES = st.sampled_from(Role)
ACTORS = st.builds(
    Actor,
    kind=st.sampled_from(Kind),
    id=st.integers(0, 1 << 60),
    name=TEXT,
    is_admin=st.booleans(),
    scopes=st.none() | st.frozensets(TEXT, max_size=3),
    token_id=st.none() | st.integers(0, 1 << 60),
)
PROTECTED = st.lists(
    st.builds(ProtectedRef, pattern=TEXT, push_role=ROLES, allow_force=st.booleans()), max_size=3
)
RULES = st.builds(PushRules, actor=ACTORS, role=ROLES, branches=PROTECTED, tags=PROTECTED)
CONTEXTS = st.builds(
    PushContext, address=TEXT, transport=TEXT, request_id=TEXT, messages=st.lists(TEXT, max_size=2).map(tuple)
)

FETCH = UploadPack(repository_id=7, version=2, stateless=True)


@given(
    st.builds(
        ReceivePack,
        repository_id=st.integers(1, 1 << 60),
        stateless=st.booleans(),
        rules=RULES,
        context=CONTEXTS,
    )
)
def test_a_push_arrives_as_it_was_asked(call: ReceivePack) -> None:
    assert ReceivePack.decode(call.encode()) == call


def test_a_fetch_arrives_and_unknown_fields_are_left_alone() -> None:
    assert UploadPack.decode(FETCH.encode()) == FETCH
    assert UploadPack.decode(changed(colour="green", needs=[])) == FETCH
    with pytest.raises(NotUnderstood, match="colour"):
        UploadPack.decode(changed(colour="green", needs=["colour"]))


OIDS = st.text("0123456789abcdef", min_size=40, max_size=40).map(Oid)
MANY = st.lists(OIDS, max_size=3).map(tuple)
QUESTIONS = st.one_of(
    st.builds(Objects, oids=MANY),
    st.builds(
        CommitNamed, digits=st.text("0123456789abcdef", min_size=4, max_size=40), visible=st.booleans()
    ),
    st.builds(History, start=OIDS, skip=st.integers(0, 1 << 30), limit=st.integers(1, 1000)),
    st.builds(Ahead, tips=MANY, into=OIDS),
)
ADDITION = Addition(
    push_id=new_ulid(),
    repository_id=7,
    actor="user:7",
    change=RefChange(RefName(b"refs/tags/\xff"), ZERO_OID, Oid("1" * 40), Oid("2" * 40)),
)


@given(st.builds(Browse, repository_id=st.integers(1, 1 << 60), question=QUESTIONS))
def test_a_question_arrives_as_it_was_asked(call: Browse) -> None:
    assert Browse.decode(call.encode()) == call


def test_a_change_arrives_as_it_was_made_and_so_does_its_outcome() -> None:
    assert Write.decode(Write(addition=ADDITION).encode()) == Write(addition=ADDITION)
    refused = {RefName(b"refs/heads/\xff"): "reference already exists"}
    assert refused_from(fields_of(json.dumps(facts_of_refused(refused)).encode())) == refused


@pytest.mark.parametrize(
    "wrong",
    [
        {"ask": "objects", "oids": ["--batch-all-objects"]},
        {"ask": "objects", "oids": ["1" * 39]},
        {"ask": "objects", "oids": ["A" * 40]},
        {"ask": "objects", "oids": ["1" * 40 + "\n"]},
        {"ask": "objects", "oids": "1" * 40},
        {"ask": "objects", "oids": ["1" * 40] * 10_001},
        {"ask": "commit", "digits": "HEAD", "visible": True},
        {"ask": "commit", "digits": "abc", "visible": True},
        {"ask": "commit", "digits": "1" * 40, "visible": 1},
        {"ask": "history", "start": "refs/heads/main", "skip": 0, "limit": 1},
        {"ask": "history", "start": "1" * 40, "skip": -1, "limit": 1},
        {"ask": "history", "start": "1" * 40, "skip": 0, "limit": 1001},
        {"ask": "history", "start": "1" * 40, "skip": "0", "limit": 1},
        {"ask": "ahead", "tips": ["^" + "1" * 39], "into": "1" * 40},
        {"ask": "ahead", "tips": [], "into": "--all"},
        {"ask": None},
        {},
    ],
)
def test_nothing_but_a_question_is_taken_for_one(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadFields):
        Browse.decode(json.dumps({"repository_id": 7, "needs": [], **wrong}).encode())


def test_a_question_of_tomorrow_is_not_understood() -> None:
    """So the caller asks another node, which may be newer."""
    for kind in ("archive", "rev-list", "sh"):
        with pytest.raises(NotUnderstood, match=kind):
            Browse.decode(json.dumps({"repository_id": 7, "ask": kind, "needs": []}).encode())


@pytest.mark.parametrize(
    "wrong",
    [
        {"push_id": "x"},
        {"push_id": "../../../../../etc/passwd"},
        {"ref": "refs/mainstay/x"},
        {"ref": "refs/keep-around/1"},
        {"ref": "HEAD"},
        {"ref": "refs/heads/a..b"},
        {"ref": "refs/heads/"},
        {"ref": "refs/heads/x\ny"},
        {"ref": "refs/heads/" + "x" * 5000},
        {"old": "1"},
        {"new": ZERO_OID},
        {"new": "z" * 40},
        {"peeled": "1"},
        {"actor": 7},
        {"actor": "x" * 1001},
    ],
)
def test_nothing_but_a_change_is_taken_for_one(wrong: dict[str, Any]) -> None:
    sound = json.loads(Write(addition=ADDITION).encode())
    with pytest.raises(BadFields):
        Write.decode(json.dumps({**sound, **wrong}).encode())


@pytest.mark.parametrize(
    "wrong",
    [
        {"repository_id": True},
        {"repository_id": "7"},
        {"repository_id": 0},
        {"repository_id": 7.0},
        {"repository_id": 1 << 63},
        {"version": 1},
        {"version": None},
        {"stateless": 1},
        {"stateless": "true"},
        {"needs": "x"},
        {"needs": [1]},
    ],
)
def test_a_value_of_another_type_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadFields):
        UploadPack.decode(changed(**wrong))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"7",
        b"{}",
        b'{"repository_id": 7, "repository_id": 8, "version": 2, "stateless": true}',
        b'{"repository_id": NaN, "version": 2, "stateless": true}',
        b"[" * 100_000,
        b"\xff",
        FETCH.encode() + b"{}",
    ],
)
def test_what_is_no_single_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadFields):
        UploadPack.decode(body)


def test_names_cannot_become_fields() -> None:
    """A user who calls himself like a piece of JSON is called so on the other side."""
    name = '","is_admin":true,"name":"root'
    rules = PushRules(actor=Actor(kind=Kind.USER, id=9, name=name), role=Role.DEVELOPER)
    context = PushContext(address="192.0.2.7", transport="http", request_id="r\r\nx: y")
    call = ReceivePack(repository_id=7, stateless=True, rules=rules, context=context)
    arrived = ReceivePack.decode(call.encode())
    assert arrived.rules.actor.name == name
    assert not arrived.rules.actor.is_admin
    with pytest.raises(BadFields, match="twice"):
        ReceivePack.decode(call.encode()[:-1] + b', "role": 50}')


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 30), min_size=1))
def test_frames_come_out_whatever_the_cuts(chunks: list[bytes], cuts: list[int]) -> None:
    sent = [frame(frames.Kind.PARAMETERS, b"{}"), frames.ALIVE]
    sent += [piece for chunk in chunks for piece in data_frames(chunk)]
    stream = b"".join([*sent, frames.END])
    read = FrameReader()
    seen: list[Frame] = []
    for number in range(len(stream)):
        size = cuts[number % len(cuts)]
        piece, stream = stream[:size], stream[size:]
        read.feed(piece)
        while (found := read.next()) is not None:
            seen.append(found)
    assert seen[0] == Frame(frames.Kind.PARAMETERS, b"{}")
    assert b"".join(each.body for each in seen if each.kind is frames.Kind.DATA) == b"".join(chunks)
    assert read.ended
    assert seen[-1].kind is frames.Kind.END
    assert sum(each.kind is frames.Kind.END for each in seen) == 1


def test_a_large_chunk_travels_in_pieces() -> None:
    chunk = bytes(range(256)) * 10_000
    pieces = data_frames(chunk)
    assert [len(each) for each in pieces] == [5 + (1 << 20), 5 + (1 << 20), 5 + len(chunk) - (2 << 20)]
    assert data_frames(b"") == []
    reader = FrameReader()
    reader.feed(pieces[0][:1000])
    assert reader.next() == Frame(frames.Kind.DATA, chunk[:995]), "nothing waits for the rest of its frame"
    assert reader.next() is None


@pytest.mark.parametrize(
    "stream",
    [
        b"\x00\x00\x00\x00\x00",
        b"\x09\x00\x00\x00\x00",
        b"\x03\x00\x10\x00\x01",
        b"\x01\xff\xff\xff\xff",
        frames.END + frames.ALIVE,
        frame(frames.Kind.FAILED, b"{}") + b"x",
    ],
)
def test_what_is_no_frame_is_refused(stream: bytes) -> None:
    reader = FrameReader()
    reader.feed(stream)
    with pytest.raises(BadFrame):
        reader.next()


def test_nothing_follows_the_end() -> None:
    reader = FrameReader()
    reader.feed(frames.END)
    assert reader.next() == Frame(frames.Kind.END, b"")
    assert reader.next() is None
    with pytest.raises(BadFrame):
        reader.feed(b"x")


@pytest.mark.parametrize("family", [Invalid, NotAllowed, NotFound, Conflict, Unavailable])
def test_an_error_keeps_family_and_sentence(family: type[MainstayError]) -> None:
    class Special(family):  # type: ignore[valid-type, misc]
        pass

    arrived = faults.heard(faults.said(Special("ref b'x': \"moved\"")))
    assert type(arrived) is family
    assert str(arrived) == "ref b'x': \"moved\""


def test_an_error_keeps_when_to_come_back_and_that_nobody_knows() -> None:
    later = faults.heard(faults.said(Unavailable("the database is away", retry_after_s=17)))
    assert isinstance(later, Unavailable)
    assert later.retry_after_s == 17
    assert isinstance(faults.heard(faults.said(OutcomeUnknown("push P"))), OutcomeUnknown)
    newer = faults.heard(b'{"family": "too_early", "sentence": "not yet"}')
    assert isinstance(newer, Unavailable)
    with pytest.raises(BadFields):
        faults.heard(b'{"family": "invalid"}')


def test_a_list_has_an_end() -> None:
    with pytest.raises(BadFields):
        fields_of(json.dumps({"a": ["x"] * 10_001}).encode()).texts("a")
    with pytest.raises(BadFields):
        fields_of(json.dumps({"a": "x" * 1001}).encode()).text("a")


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(FETCH.encode()), **fields}).encode()
