"""What is refused because of what a new value is."""

import hashlib
from pathlib import Path

import pytest

from mainstay.cache.refs import RefListing
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.git.packs import PackIndex, whole_kind
from mainstay.repository.inspection import ObjectKind, kinds_in_pack, known_tips, refusal_by_kind
from mainstay.storage.ledger import Ref, RefChange, Repository
from support.raw_push import blob, commit, pack_of, tree

BRANCH, TAG = RefName(b"refs/heads/main"), RefName(b"refs/tags/v1")


@pytest.mark.parametrize(
    ("name", "found", "reason"),
    [
        (BRANCH, ObjectKind("commit", None), None),
        (TAG, ObjectKind("blob", None), None),
        (BRANCH, None, "missing necessary objects"),
        (TAG, None, "missing necessary objects"),
        (
            BRANCH,
            ObjectKind("tree", None),
            "cannot update ref 'refs/heads/main': trying to write non-commit object to a branch",
        ),
    ],
)
def test_branches_hold_commits(name: RefName, found: ObjectKind | None, reason: str | None) -> None:
    assert refusal_by_kind(name, found) == reason


def a_listing(*names: bytes) -> RefListing:
    repository = Repository(
        id=1, uid="U", network_id=1, object_format="sha1", head=BRANCH, version=3, manifest_version=1,
        prune_epoch=0, write_state="writable", identity={},
    )  # fmt: skip
    refs = [Ref(RefName(name), Oid(f"{number:040x}")) for number, name in enumerate(sorted(names), start=1)]
    return RefListing(repository, tuple(refs))


def test_a_ref_that_moves_on_stops_the_walk_at_its_old_value_and_head() -> None:
    listing = a_listing(b"refs/heads/main", b"refs/heads/topic", b"refs/tags/v1")
    moved = RefChange(RefName(b"refs/heads/topic"), Oid(f"{2:040x}"), Oid("f" * 40))
    assert known_tips(listing, [moved]) == [f"{2:040x}", f"{1:040x}"]


def test_a_new_ref_may_start_from_any_tip() -> None:
    listing = a_listing(b"refs/heads/main", b"refs/heads/topic", b"refs/tags/v1")
    made = RefChange(RefName(b"refs/heads/new"), ZERO_OID, Oid("f" * 40))
    assert known_tips(listing, [made]) == [ref.oid for ref in listing.refs]


def an_index(entries: list[tuple[str, int]]) -> bytes:
    """A pack index of version 2 of (oid, offset) pairs."""
    entries = sorted(entries)
    counts = [sum(int(oid[:2], 16) <= first for oid, _ in entries) for first in range(256)]
    body = b"\xfftOc\x00\x00\x00\x02" + b"".join(count.to_bytes(4) for count in counts)
    body += b"".join(bytes.fromhex(oid) for oid, _ in entries) + bytes(4 * len(entries))
    large = [offset for _, offset in entries if offset >= 1 << 31]
    for _, offset in entries:
        body += (offset if offset < 1 << 31 else (1 << 31) | large.index(offset)).to_bytes(4)
    body += b"".join(offset.to_bytes(8) for offset in large)
    return body + bytes(40)


def test_commits_of_a_pack_are_known_without_git(tmp_path: Path) -> None:
    content = blob(b"content\n")
    top = tree({"file": content})
    made = commit(top, None, "one")
    packed = pack_of([made, top, content])
    (tmp_path / "p.pack").write_bytes(packed)
    tree_at = packed.index(pack_of([top])[12:-20])
    (tmp_path / "p.idx").write_bytes(an_index([(made.oid, 12), (top.oid, tree_at)]))
    absent = Oid(hashlib.sha1(b"absent").hexdigest())
    asked = [Oid(made.oid), Oid(top.oid), absent]
    assert kinds_in_pack(tmp_path / "p.pack", asked) == {Oid(made.oid): ObjectKind("commit", None)}


def test_offsets_beyond_two_gigabytes_are_read() -> None:
    index = PackIndex(an_index([("1" * 40, 12), ("2" * 40, 5 << 30)]))
    assert index.offset_of(Oid("1" * 40)) == 12
    assert index.offset_of(Oid("2" * 40)) == 5 << 30
    assert index.offset_of(Oid("3" * 40)) is None


def test_the_last_objects_of_a_pack_are_found_by_their_offsets() -> None:
    index = PackIndex(an_index([("1" * 40, 5 << 30), ("2" * 40, 12), ("3" * 40, 80)]))
    assert [index.start_of_last(count) for count in (1, 2, 3)] == [5 << 30, 80, 12]
    assert index.start_of_last(0) > 5 << 30


@pytest.mark.parametrize(
    ("first", "kind"),
    [(0x95, "commit"), (0x25, "tree"), (0xB0, "blob"), (0x40, "tag"), (0x6F, None), (0x75, None)],
)
def test_deltas_have_no_kind_of_their_own(first: int, kind: str | None) -> None:
    assert whole_kind(first) == kind
