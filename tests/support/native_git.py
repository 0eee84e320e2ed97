"""Small bare repositories, made by native git, for tests that compare us with it."""

from pathlib import Path

from mainstay.git.native.run import GitPlace, run
from mainstay.git.objectnames import Oid, oid

EMPTY_PACK = bytes.fromhex("5041434b0000000200000000029d08823bd8a8eab510ad6ac75c823cfd3ed31e")
"""A pack of no objects: what git sends with refs to objects that the server has."""


def bare_repository(directory: Path) -> GitPlace:
    """An empty bare repository whose HEAD is `refs/heads/main`."""
    place = GitPlace(git_dir=directory)
    run(place, ["init", "--bare", "--quiet", "--template=", "--initial-branch=main", str(directory)])
    return place


def stored(place: GitPlace, kind: str, content: bytes) -> Oid:
    """Write one object."""
    return oid(run(place, ["hash-object", "-w", "--stdin", "-t", kind], stdin=content).stdout.strip())


def commit(place: GitPlace, *parents: Oid, message: str = "work", content: bytes = b"text\n") -> Oid:
    """Write a commit of one file."""
    blob = stored(place, "blob", content)
    tree = stored(place, "tree", b"100644 file\0" + bytes.fromhex(blob))
    who = "Ada <ada@example.org> 1700000000 +0000"
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {who}", f"committer {who}"]
    return stored(place, "commit", "\n".join([*lines, "", message, ""]).encode())


def annotated_tag(place: GitPlace, target: Oid, name: str) -> Oid:
    """Write a tag object that leads to a commit."""
    who = "Ada <ada@example.org> 1700000000 +0000"
    return stored(place, "tag", f"object {target}\ntype commit\ntag {name}\ntagger {who}\n\ntag\n".encode())


def set_refs(place: GitPlace, refs: dict[bytes, Oid]) -> None:
    """Create or move refs in one transaction."""
    commands = b"".join(b"update %s\0%s\0\0" % (name, target.encode()) for name, target in refs.items())
    run(place, ["update-ref", "-z", "--stdin"], stdin=commands)
