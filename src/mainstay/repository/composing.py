"""Git objects that the server itself makes: blobs, trees, commits, tags, and a pack of a few of them.

Pure functions from values to bytes. Formats: gitformat-pack(5), and the object headers as git writes them.
"""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from mainstay.git.objectnames import Oid
from mainstay.repository.browse import Signature


class Kind(IntEnum):
    """The numbers are those of the pack format."""

    COMMIT = 1
    TREE = 2
    BLOB = 3
    TAG = 4


@dataclass(frozen=True, slots=True)
class GitObject:
    kind: Kind
    body: bytes

    @property
    def oid(self) -> Oid:
        header = f"{self.kind.name.lower()} {len(self.body)}".encode() + b"\0"
        return Oid(hashlib.sha1(header + self.body, usedforsecurity=False).hexdigest())


def blob(content: bytes) -> GitObject:
    return GitObject(Kind.BLOB, content)


def tree_of_files(files: Mapping[str, Oid]) -> GitObject:
    """A tree without subtrees: ordinary files by name."""
    named = sorted((name.encode(), oid) for name, oid in files.items())
    return GitObject(
        Kind.TREE, b"".join(b"100644 " + name + b"\0" + bytes.fromhex(oid) for name, oid in named)
    )


def commit(*, tree: Oid, parents: Sequence[Oid], author: Signature, message: str) -> GitObject:
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
    lines += [f"author {_signed(author)}", f"committer {_signed(author)}", "", _message(message)]
    return GitObject(Kind.COMMIT, "\n".join(lines).encode("utf-8", "surrogateescape"))


def tag(*, target: Oid, target_kind: str, name: bytes, tagger: Signature, message: str) -> GitObject:
    head = f"object {target}\ntype {target_kind}\ntag ".encode() + name
    rest = f"\ntagger {_signed(tagger)}\n\n{_message(message)}"
    return GitObject(Kind.TAG, head + rest.encode("utf-8", "surrogateescape"))


def pack_of(objects: Sequence[GitObject]) -> bytes:
    """A version 2 pack of whole objects."""
    parts = [b"PACK", (2).to_bytes(4), len(objects).to_bytes(4)]
    for each in objects:
        parts += [_entry_header(each.kind, len(each.body)), zlib.compress(each.body)]
    content = b"".join(parts)
    return content + hashlib.sha1(content, usedforsecurity=False).digest()


def _entry_header(kind: Kind, size_bytes: int) -> bytes:
    """Type and size: four bits of size in the first byte, then seven per byte, lowest first."""
    byte = (kind << 4) | (size_bytes & 15)
    rest = size_bytes >> 4
    header = bytearray()
    while rest:
        header.append(byte | 0x80)
        byte, rest = rest & 0x7F, rest >> 7
    header.append(byte)
    return bytes(header)


def _signed(signature: Signature) -> str:
    sign = "-" if signature.zone_minutes < 0 else "+"
    hours, minutes = divmod(abs(signature.zone_minutes), 60)
    who = f"{_clean(signature.name)} <{_clean(signature.email)}>"
    return f"{who} {signature.at_s} {sign}{hours:02d}{minutes:02d}"


def _clean(text: str) -> str:
    """What would end the field early is left out, as git does; nobody may forge a second header."""
    kept = "".join(letter for letter in text if letter not in "<>\n\r\0").strip(" .,:;\"'")
    return kept or "nobody"


def _message(text: str) -> str:
    stripped = text.replace("\r\n", "\n").replace("\0", "").rstrip("\n")
    return stripped + "\n"
