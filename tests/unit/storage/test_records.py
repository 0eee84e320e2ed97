"""Journal records: exact in both directions, for any names; clear about what is not one."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.storage.ledger import Change, Pack, Push, Ref, RefChange, Repository, Snapshot
from mainstay.storage.records import (
    BrokenRecord,
    Prepared,
    decode_change,
    decode_prepared,
    decode_snapshot,
    encode_change,
    encode_prepared,
    encode_snapshot,
)

oids = st.binary(min_size=20, max_size=20).map(lambda raw: Oid(raw.hex()))
names = st.binary(min_size=1, max_size=30).map(RefName) | st.text(min_size=1).map(
    lambda text: RefName(text.encode("utf-8", "surrogatepass"))
)
texts = st.text(max_size=20)
facts = st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts, max_size=4)
ref_changes = st.builds(RefChange, name=names, old=oids, new=oids, peeled=st.none() | oids)
packs = st.builds(
    Pack,
    id=texts,
    key=texts,
    sha256=texts,
    size_bytes=st.integers(0, 2**50),
    objects=st.integers(0, 2**40),
    kind=st.sampled_from(["receive", "compact", "base", "garbage"]),
    sealed=st.booleans(),
    artefacts=st.lists(texts, max_size=3).map(tuple),
    added_version=st.integers(0, 2**40),
)
changes = st.builds(
    Change,
    repository_id=st.integers(1, 2**60),
    uid=texts,
    version=st.integers(1, 2**40),
    kind=st.sampled_from(
        ["create", "fork", "push", "head", "identity", "swap", "artefacts", "state", "delete"]
    ),
    push_id=st.none() | texts,
    actor=texts,
    at_ms=st.integers(0, 2**45),
    refs=st.lists(ref_changes, max_size=3),
    packs_added=st.lists(packs, max_size=2),
    packs_removed=st.lists(texts, max_size=2),
    head=st.none() | names,
    identity=st.none() | facts,
    details=facts,
    hash=texts,
    previous_hash=texts,
)
repositories = st.builds(
    Repository,
    id=st.integers(1, 2**60),
    uid=texts,
    network_id=st.integers(1, 2**60),
    object_format=texts,
    head=names,
    version=st.integers(1, 2**40),
    manifest_version=st.integers(0, 2**40),
    prune_epoch=st.integers(0, 2**40),
    write_state=st.sampled_from(["writable", "read_only", "deleted"]),
    identity=facts,
)
snapshots = st.builds(
    Snapshot,
    repository=repositories,
    refs=st.lists(st.builds(Ref, name=names, oid=oids, peeled=st.none() | oids), max_size=4),
    packs=st.lists(packs, max_size=2),
    hash=texts,
)
pushes = st.builds(
    Push,
    push_id=texts,
    repository_id=st.integers(1, 2**60),
    actor=texts,
    changes=st.lists(ref_changes, max_size=3),
    prune_epoch=st.integers(0, 2**40),
    packs=st.lists(packs, max_size=2),
    atomic=st.booleans(),
    head=st.none() | names,
    details=facts,
)


@given(changes)
def test_a_change_survives_the_journal(change: Change) -> None:
    record = encode_change(change)
    assert decode_change(record) == change
    assert encode_change(decode_change(record)) == record


@given(snapshots)
def test_a_snapshot_survives_the_journal(snapshot: Snapshot) -> None:
    record = encode_snapshot(snapshot)
    assert decode_snapshot(record) == snapshot
    assert encode_snapshot(snapshot) == record


@given(pushes, texts, st.integers(0, 2**45))
def test_a_prepared_push_survives_the_journal(push: Push, uid: str, at_ms: int) -> None:
    prepared = Prepared(push, uid, at_ms)
    assert decode_prepared(encode_prepared(prepared)) == prepared


def a_change(**other: Any) -> Change:
    facts: dict[str, Any] = {
        "repository_id": 7,
        "uid": "U",
        "version": 3,
        "kind": "push",
        "push_id": "P",
        "actor": "user:1",
        "at_ms": 5,
        "refs": [RefChange(RefName(b"refs/heads/main"), ZERO_OID, Oid("a" * 40))],
        "packs_added": [],
        "packs_removed": [],
        "head": None,
        "identity": None,
        "details": {},
        "hash": "h",
        "previous_hash": "p",
    }
    return Change(**(facts | other))


def test_people_can_read_a_record() -> None:
    record = json.loads(encode_change(a_change()))
    assert record["refs"] == [["refs/heads/main", ZERO_OID, "a" * 40, None]]
    assert (record["format"], record["record"], record["version"]) == (1, "change", 3)


def test_a_name_that_is_not_text_cannot_be_mistaken() -> None:
    names = [b"refs/heads/\xff", b"base64:cmVmcw==", "refs/heads/ä".encode(), b"base64:"]
    refs = [RefChange(RefName(name), ZERO_OID, Oid("a" * 40)) for name in names]
    record = encode_change(a_change(refs=refs))
    assert record.isascii()
    assert [ref.name for ref in decode_change(record).refs] == names


def altered(**fields: Any) -> bytes:
    return json.dumps(json.loads(encode_change(a_change())) | fields).encode()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "another kind"),
        (altered(record="prepared"), "another kind"),
        (altered(format=2), "newer Mainstay"),
        (altered(kind="explosion"), "explosion"),
        (altered(version="x"), "invalid literal"),
        (altered(refs=[["refs/heads/main", "0" * 39, "a" * 40, None]]), "not an object name"),
        (altered(refs=[["base64:!", "0" * 40, "a" * 40, None]]), "base64|non-alphabet"),
        (altered(refs=[["refs/heads/main"]]), "unpack"),
        (altered(packs_added=[{}]), "id"),
    ],
)
def test_what_is_not_a_record_is_refused(record: bytes, reason: str) -> None:
    with pytest.raises(BrokenRecord, match=reason):
        decode_change(record)


@pytest.mark.parametrize(
    "content", [b"", b"plain", gzip.compress(b"{}", mtime=0), gzip.compress(b"x" * 100, mtime=0)[:-9]]
)
def test_what_is_not_a_checkpoint_is_refused(content: bytes) -> None:
    with pytest.raises(BrokenRecord):
        decode_snapshot(content)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstay.storage.records.SNAPSHOT_BYTES_MAX", 1 << 20)
    with pytest.raises(BrokenRecord, match="larger than any"):
        decode_snapshot(gzip.compress(bytes(100 << 20)))
