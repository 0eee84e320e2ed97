"""The tags inside a copy: the one kind of ref that native git needs there, for `include-tag`.

Everything else about refs is answered from the ledger. The file is replaced by a rename, so a git process
that is starting reads either the old tags or the new ones; what clients may ask for is checked elsewhere.
"""

from hashlib import sha256
from pathlib import Path

from mainstay.cache.refs import RefListing
from mainstay.foundation.ids import new_ulid

_HEADER = b"# pack-refs with: peeled fully-peeled sorted \n"


def write(git_dir: Path, listing: RefListing) -> None:
    """Make `packed-refs` hold the tags of `listing`. Blocks; does nothing when it holds them already."""
    content = listing.encoded.get("tags") or _remember(listing, packed(listing))
    marker = git_dir / "packed-refs.digest"
    digest = listing.encoded["tags.digest"]
    try:
        if marker.read_bytes() == digest:
            return
    except FileNotFoundError:
        pass
    _replace(git_dir / "packed-refs", content)
    _replace(marker, digest)


def packed(listing: RefListing) -> bytes:
    """The tags in git's packed-refs format."""
    lines = [_HEADER]
    for ref in listing.under(b"refs/tags/"):
        lines.append(ref.oid.encode() + b" " + ref.name + b"\n")
        if ref.peeled is not None:
            lines.append(b"^" + ref.peeled.encode() + b"\n")
    return b"".join(lines)


def _remember(listing: RefListing, content: bytes) -> bytes:
    listing.encoded["tags.digest"] = sha256(content).digest()
    listing.encoded["tags"] = content
    return content


def _replace(target: Path, content: bytes) -> None:
    fresh = target.with_name(f"{target.name}.{new_ulid()}")
    fresh.write_bytes(content)
    fresh.rename(target)
