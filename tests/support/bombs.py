"""Packs that no Git client would make: broken, lying, or small with much inside. Pure Python.

Builders take whole objects (`support.raw_push`) or make entries byte by byte. What they give is a pack, ready
to stand behind the commands of a push.
"""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from support.raw_push import RawObject, blob, commit, pack_of

_BLOB, _OFS_DELTA, _REF_DELTA = 3, 6, 7
_COPY_BYTES_MAX = 0xFFFFFF
_MIB = 1 << 20


@dataclass(frozen=True)
class Bomb:
    """A pack, the commit that leads into it, and what it would be unpacked."""

    pack: bytes
    tip: str
    unpacked_bytes: int = 0


# Frames
def sealed(content: bytes) -> bytes:
    """The bytes with the checksum that a pack ends with."""
    return content + hashlib.sha1(content).digest()


def header(objects: int, *, version: int = 2) -> bytes:
    return b"PACK" + version.to_bytes(4, "big") + objects.to_bytes(4, "big")


def entry(kind: int, size: int, packed: bytes, *, before: bytes = b"") -> bytes:
    """One object of a pack: its kind and unpacked size, what a delta says of its base, the deflated bytes."""
    first, rest = (kind << 4) | (size & 15), size >> 4
    octets = []
    while rest:
        octets.append(first | 0x80)
        first, rest = rest & 0x7F, rest >> 7
    return bytes([*octets, first]) + before + packed


def relabelled(pack: bytes, *, objects: int | None = None, version: int = 2) -> bytes:
    """The same entries under a header that says something else; the checksum is right."""
    count = int.from_bytes(pack[8:12], "big") if objects is None else objects
    return sealed(header(count, version=version) + pack[12:-20])


def with_entries(whole: Iterable[RawObject], entries: Iterable[bytes]) -> bytes:
    """A pack of whole objects and hand-made entries behind them."""
    objects, extra = list(whole), list(entries)
    packed = pack_of(objects)
    return sealed(header(len(objects) + len(extra)) + packed[12:-20] + b"".join(extra))


def thin(base: str, result: bytes) -> bytes:
    """A pack of one delta against an object that is not in it."""
    delta = _size(len(result)) + _size(len(result)) + bytes([len(result)]) + result
    packed = entry(_REF_DELTA, len(delta), zlib.compress(delta), before=bytes.fromhex(base))
    return sealed(header(1) + packed)


# Bombs
def deflate_bomb(unpacked_mib: int) -> Bomb:
    """One blob of zeros: a thousandth of its size in the pack."""
    return _one_blob(bytes(_MIB), unpacked_mib)


def one_line(unpacked_mib: int) -> Bomb:
    """A text file without a line feed."""
    return _one_blob(b"one line " * (_MIB // 9), unpacked_mib)


def _one_blob(piece: bytes, times: int) -> Bomb:
    deflate, size = zlib.compressobj(9), len(piece) * times
    packed, name = [], hashlib.sha1(b"blob %d\0" % size)
    for _ in range(times):
        packed.append(deflate.compress(piece))
        name.update(piece)
    top = raw_tree([(b"100644", b"file", name.hexdigest())])
    tip = commit(top, None, "One file")
    whole = entry(_BLOB, size, b"".join([*packed, deflate.flush()]))
    return Bomb(with_entries([top, tip], [whole]), tip.oid, size)


def delta_bomb(*, growth: int, levels: int) -> Bomb:
    """Each delta says its base `growth` times: 64 KiB become GiBs in a few hundred bytes."""
    size = 1 << 16
    entries = [entry(_BLOB, size, zlib.compress(bytes(size), 9))]
    for _ in range(levels):
        copies = b"".join(_copies(size) for _ in range(growth))
        delta = _size(size) + _size(size * growth) + copies
        entries.append(_on_the_one_before(delta, entries[-1]))
        size *= growth
    return _beside_a_commit(entries, size)


def delta_chain(*, base_mib: int, links: int) -> Bomb:
    """A long chain of deltas, each as large as its base unpacked: little memory, much work."""
    size = base_mib << 20
    entries = [entry(_BLOB, size, zlib.compress(bytes(size), 9))]
    for number in range(links):
        mark = number.to_bytes(4, "big")
        delta = _size(size) + _size(size + len(mark)) + _copies(size) + bytes([len(mark)]) + mark
        entries.append(_on_the_one_before(delta, entries[-1]))
        size += len(mark)
    return _beside_a_commit(entries, size * links)


def tree_bomb(*, width: int, levels: int) -> Bomb:
    """Directories that hold the same directory `width` times, `levels` deep: `width ** levels` files."""
    leaf = blob(b"boom\n")
    objects = [leaf]
    top = raw_tree([(b"100644", b"f%d" % number, leaf.oid) for number in range(width)])
    for _ in range(levels - 1):
        objects.append(top)
        top = raw_tree([(b"40000", b"d%d" % number, top.oid) for number in range(width)])
    tip = commit(top, None, "Everywhere")
    return Bomb(pack_of([*objects, top, tip]), tip.oid, width**levels)


def deep_tree(depth: int) -> Bomb:
    """A file at the end of `depth` directories."""
    objects = [blob(b"deep\n")]
    mode = b"100644"
    for _ in range(depth):
        objects.append(raw_tree([(mode, b"a", objects[-1].oid)]))
        mode = b"40000"
    tip = commit(objects[-1], None, "Deep down")
    return Bomb(pack_of([*objects, tip]), tip.oid)


# Objects
def raw_tree(entries: Iterable[tuple[bytes, bytes, str]]) -> RawObject:
    """A tree with exactly these entries, in this order: mode, name, object."""
    return RawObject(
        "tree", b"".join(b"%s %s\0" % (mode, name) + bytes.fromhex(oid) for mode, name, oid in entries)
    )


def tag(target: str, kind: str = "commit", name: str = "v1") -> RawObject:
    said = (
        f"object {target}\ntype {kind}\ntag {name}\ntagger Ada <ada@example.org> 1700000000 +0000\n\nA tag\n"
    )
    return RawObject("tag", said.encode())


def with_header(tip: RawObject, line: bytes) -> RawObject:
    """The commit with one more line between its headers and its message."""
    head, _, message = tip.content.partition(b"\n\n")
    return replace(tip, content=head + b"\n" + line + b"\n\n" + message)


def _beside_a_commit(entries: list[bytes], unpacked_bytes: int) -> Bomb:
    """The entries first: what they say of distances to each other holds as it is."""
    file = blob(b"innocent\n")
    top = raw_tree([(b"100644", b"file", file.oid)])
    tip = commit(top, None, "Nothing to see")
    whole = pack_of([file, top, tip])[12:-20]
    return Bomb(sealed(header(len(entries) + 3) + b"".join(entries) + whole), tip.oid, unpacked_bytes)


def _on_the_one_before(delta: bytes, base: bytes) -> bytes:
    return entry(_OFS_DELTA, len(delta), zlib.compress(delta), before=_distance(len(base)))


def _distance(value: int) -> bytes:
    """How far back a base is, as `OFS_DELTA` writes it."""
    octets = [value & 0x7F]
    while value := value >> 7:
        value -= 1
        octets.append(0x80 | (value & 0x7F))
    return bytes(reversed(octets))


def _size(value: int) -> bytes:
    octets = []
    while value > 0x7F:
        octets.append(0x80 | (value & 0x7F))
        value >>= 7
    return bytes([*octets, value])


def _copies(size: int) -> bytes:
    """Instructions of a delta that copy the base once, from its first byte to its last."""
    return b"".join(
        _copy(start, min(_COPY_BYTES_MAX, size - start)) for start in range(0, size, _COPY_BYTES_MAX)
    )


def _copy(start: int, length: int) -> bytes:
    return bytes([0xFF]) + start.to_bytes(4, "little") + length.to_bytes(3, "little")
