"""The canonical bytes are a format: old logs must verify for ever, so they are written out here."""

from dataclasses import replace

from mainstay.git.objectnames import ZERO_OID, RefName
from mainstay.storage.ledger import Change, Pack, RefChange
from mainstay.storage.ledger.chain import FIRST, canonical, hash_of, pack_facts, pack_of, sealed
from support.ledgers import ADA, MAIN, an_oid, create

PACK = Pack("01J", "k", "ab" * 32, 10, 2, "receive", sealed=True, artefacts=("idx", "rev"), added_version=2)
CHANGE = Change(
    repository_id=7,
    uid="01JD6Q9Z4M8W3N5V7X2Y1B0CDE",
    version=2,
    kind="push",
    push_id="P",
    actor=ADA,
    at_ms=1_700_000_000_000,
    refs=[RefChange(RefName(b"refs/tags/\xff"), ZERO_OID, an_oid(2), an_oid(1)), create(MAIN)],
    packs_added=[PACK],
    packs_removed=["01H"],
    head=MAIN,
    identity=None,
    details={"z": "é", "a": [1, None]},
    hash="",
    previous_hash=FIRST,
)


def test_the_canonical_bytes_are_these() -> None:
    assert canonical(CHANGE) == (
        b'{"actor":"user:1","at_ms":1700000000000,"details":{"a":[1,null],"z":"\\u00e9"},'
        b'"head":"refs/heads/main","identity":null,"kind":"push",'
        b'"packs_added":[{"added_version":2,"artefacts":["idx","rev"],"id":"01J","key":"k",'
        b'"kind":"receive","objects":2,"sealed":true,"sha256":"' + b"ab" * 32 + b'","size_bytes":10}],'
        b'"packs_removed":["01H"],"push_id":"P",'
        b'"refs":[["refs/heads/main","' + b"0" * 40 + b'","' + b"0" * 39 + b'1",null],'
        b'["refs/tags/\\udcff","' + b"0" * 40 + b'","' + b"0" * 39 + b'2","' + b"0" * 39 + b'1"]],'
        b'"uid":"01JD6Q9Z4M8W3N5V7X2Y1B0CDE","version":2}'
    )


def test_every_field_but_the_numeric_id_is_hashed() -> None:
    base = hash_of(CHANGE)
    others = [
        {"uid": "other"},
        {"version": 3},
        {"kind": "swap"},
        {"push_id": None},
        {"actor": "user:2"},
        {"at_ms": 1},
        {"refs": []},
        {"packs_added": []},
        {"packs_removed": []},
        {"head": None},
        {"identity": {}},
        {"details": {}},
        {"previous_hash": "f" * 64},
    ]
    hashes = {hash_of(replace(CHANGE, **fields)) for fields in others}
    assert len(hashes | {base}) == len(others) + 1
    assert hash_of(replace(CHANGE, repository_id=8)) == base


def test_the_order_of_refs_does_not_matter() -> None:
    assert hash_of(replace(CHANGE, refs=list(reversed(CHANGE.refs)))) == hash_of(CHANGE)


def test_sealing_sets_the_hash() -> None:
    assert sealed(CHANGE).hash == hash_of(CHANGE)
    assert len(sealed(CHANGE).hash) == 64


def test_a_pack_survives_json() -> None:
    assert pack_of(pack_facts(PACK)) == PACK
