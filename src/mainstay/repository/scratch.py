"""Throw-away repositories for work that needs refs beside the objects, such as a repack or a check."""

from collections.abc import Sequence
from pathlib import Path

from mainstay.cache.copies import Copy
from mainstay.git.native.place import GitPlace
from mainstay.storage.ledger import Ref


def repository_of(copy: Copy, refs: Sequence[Ref], directory: Path) -> GitPlace:
    """A throw-away repository with every ref, hidden ones too, over the objects of the copy."""
    (directory / "refs").mkdir(parents=True)
    (directory / "objects" / "info").mkdir(parents=True)
    (directory / "objects" / "pack").mkdir()
    for entry in (copy.objects / "pack").iterdir():
        if entry.suffix in {".pack", ".idx", ".rev"}:
            (directory / "objects" / "pack" / entry.name).hardlink_to(entry)
    (directory / "HEAD").write_text("ref: refs/heads/main\n")
    (directory / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
    lines = [b"# pack-refs with: sorted \n", *(ref.oid.encode() + b" " + ref.name + b"\n" for ref in refs)]
    (directory / "packed-refs").write_bytes(b"".join(lines))
    return GitPlace(git_dir=directory)
