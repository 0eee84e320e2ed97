"""Pack headers and pack indexes."""

import hashlib
import struct

import pytest

from mainstay.git.objectnames import Oid
from mainstay.git.packs import NotAPack, NotAPackIndex, PackIndex, object_count


def test_a_pack_says_how_many_objects_it_has() -> None:
    assert object_count(b"PACK\0\0\0\2\0\0\1\2 more") == 258
    assert object_count(b"PACK\0\0\0\2\0\0\0\5", objects_max=5) == 5


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "starts with 'PACK'"),
        (b"PACK\0\0\0\2\0\0\0", "starts with 'PACK'"),
        (b"pack\0\0\0\2\0\0\0\1", "starts with 'PACK'"),
        (b"PACK\0\0\0\3\0\0\0\1", "version 3 is not supported"),
        (b"PACK\0\0\0\2\xff\xff\xff\xff", "announces 4294967295 objects"),
    ],
)
def test_other_bytes_are_no_pack(header: bytes, reason: str) -> None:
    with pytest.raises(NotAPack, match=reason):
        object_count(header, objects_max=1000)


def index_of(names: list[bytes]) -> bytes:
    """A pack index of version 2 as git writes it, with made-up checksums."""
    names = sorted(names)
    fanout = b"".join(struct.pack(">I", sum(name[0] <= first for name in names)) for first in range(256))
    offsets = b"".join(struct.pack(">I", 12 + 100 * at) for at in range(len(names)))
    body = b"\xfftOc\0\0\0\2" + fanout + b"".join(names) + b"\0\0\0\0" * len(names) + offsets + b"\x11" * 20
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


NAMES = [hashlib.sha1(b"%d" % number, usedforsecurity=False).digest() for number in range(700)]


def test_an_index_knows_its_objects() -> None:
    index = PackIndex(index_of(NAMES[:600]))
    assert index.count == 600
    assert list(index.oids()) == sorted(Oid(name.hex()) for name in NAMES[:600])
    assert all(Oid(name.hex()) in index for name in NAMES[:600])
    assert not any(Oid(name.hex()) in index for name in NAMES[600:])
    assert Oid("0" * 40) not in index
    assert Oid("f" * 40) not in index


def test_an_index_may_be_empty() -> None:
    index = PackIndex(index_of([]))
    assert (index.count, list(index.oids())) == (0, [])
    assert Oid("0" * 40) not in index


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a pack index"),
        (index_of(NAMES)[:500], "not a pack index"),
        (b"x" + index_of(NAMES)[1:], "not a pack index"),
        (index_of(NAMES)[:-21], "cannot have"),
        (index_of(NAMES) + b"x" * 6000, "cannot have"),
        (index_of(NAMES)[:8] + b"\xff" * 4 + index_of(NAMES)[12:], "not ascending"),
    ],
)
def test_other_bytes_are_no_index(content: bytes, reason: str) -> None:
    with pytest.raises(NotAPackIndex, match=reason):
        PackIndex(content)
