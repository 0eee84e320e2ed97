"""The refs inside a copy, as far as native git needs them there.

Tags, for `include-tag`; and every visible ref for a depth that git works out from the refs: one that
excludes a name (`--shallow-exclude`) or is relative to what the client has (`--deepen`).
Everything else about refs is answered from the ledger. The file is replaced by a rename, so a git process
that is starting reads either the old refs or the new ones; what clients may ask for is checked elsewhere.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal

from mainstay.cache.locks import exclusive
from mainstay.cache.refs import RefListing
from mainstay.foundation.ids import new_ulid
from mainstay.storage.ledger import Ref

_HEADER = b"# pack-refs with: peeled fully-peeled sorted \n"


def write(git_dir: Path, listing: RefListing, *, every_ref: bool = False) -> None:
    """Make `packed-refs` hold the tags of `listing`, or all its refs. Blocks; does nothing when it does."""
    kind: Literal["tags", "refs"] = "refs" if every_ref else "tags"
    digest = digest_of(listing, kind)
    marker = git_dir / "packed-refs.digest"
    enough = {digest, listing.encoded.get("digest:refs", digest)}
    if _held(marker) in enough:
        return
    # Without turns, two writers could leave the marker of the one beside the refs of the other.
    with exclusive(git_dir / "packed-refs.turn"):
        _replace(git_dir / "packed-refs", listing.encoded[f"packed:{kind}"])
        _replace(marker, digest)


def known_digest(listing: RefListing, kind: Literal["tags", "refs"]) -> bytes | None:
    """`digest_of` if it was worked out before; takes no time."""
    return listing.encoded.get(f"digest:{kind}")


def digest_of(listing: RefListing, kind: Literal["tags", "refs"]) -> bytes:
    """Equal for equal tags (or refs), whatever else moved. Worked out once per listing."""
    digest = known_digest(listing, kind)
    if digest is None:
        content = packed(listing.refs if kind == "refs" else listing.under(b"refs/tags/"))
        listing.encoded[f"packed:{kind}"] = content
        digest = listing.encoded[f"digest:{kind}"] = sha256(content).digest()
    return digest


def packed(refs: Sequence[Ref]) -> bytes:
    """Refs in git's packed-refs format."""
    lines = [_HEADER]
    for ref in refs:
        lines.append(ref.oid.encode() + b" " + ref.name + b"\n")
        if ref.peeled is not None:
            lines.append(b"^" + ref.peeled.encode() + b"\n")
    return b"".join(lines)


def _held(marker: Path) -> bytes | None:
    try:
        return marker.read_bytes()
    except FileNotFoundError:
        return None


def _replace(target: Path, content: bytes) -> None:
    fresh = target.with_name(f"{target.name}.{new_ulid()}")
    fresh.write_bytes(content)
    fresh.rename(target)
