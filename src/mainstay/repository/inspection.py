"""Questions about objects that only git can answer: connected, of which type, a fast-forward.

All block. `place` sees the quarantine and the copy together.
"""

import mmap
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import structlog

from mainstay.cache.refs import RefListing
from mainstay.foundation.errors import Invalid
from mainstay.git.native.place import GitPlace, Limits
from mainstay.git.native.run import GitFailed, run
from mainstay.git.objectnames import Oid, RefName, shown
from mainstay.git.packs import PackIndex, whole_kind
from mainstay.storage.ledger import RefChange

log = structlog.get_logger()

_WALK_STACK_BYTES = 1 << 20
"""For some 4,000 directories inside each other. Deeper ones would pass here with a larger stack, and then
make every clone slow (the work grows with the square of the depth) or end git where it has less stack."""
_TIPS_EXCLUDED_MAX = 2_000
_RECENT_TIPS = 200


class TooDeep(Invalid):
    """Directories are nested deeper than git can walk."""


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """What an object name stands for, and what a tag finally points to."""

    kind: str
    peeled: Oid | None


def is_connected(
    place: GitPlace,
    new: Sequence[Oid],
    *,
    known: Iterable[Oid],
    limits: Limits,
    hear: Callable[[bytes], None] | None = None,
) -> bool:
    """Whether everything reachable from `new` is here, given that all of it is for the `known` tips.

    Git's own connectivity check, with the exclusions chosen by us: `--not --all` on 100,000 refs costs
    0.4 s, a handful of tips 12 ms. Fewer exclusions only walk further; they never change the answer.
    `hear` is told the names of the objects on the way, a line for each. Raises `TooDeep`, and `GitFailed`
    when git was ended before it had an answer.
    """
    lines = [*new, *(f"^{tip}" for tip in known)]
    try:
        run(
            place,
            ["rev-list", "--objects", "--quiet" if hear is None else "--no-object-names", "--stdin"],
            stdin="".join(f"{line}\n" for line in lines).encode(),
            limits=replace(limits, stack_bytes_max=_WALK_STACK_BYTES),
            hear=hear,
        )
    except GitFailed as failed:
        if failed.exit_code == -signal.SIGSEGV:
            raise TooDeep("directories are nested too deeply") from failed
        if not failed.is_verdict:
            raise
        log.info("push.not_connected", reason=str(failed))
        return False
    return True


def known_tips(listing: RefListing, changes: Sequence[RefChange]) -> list[Oid]:
    """Which existing tips to exclude from the walk: all of a small repository, the likely ones of a large."""
    old = [ref.oid for change in changes if (ref := listing.find(change.name)) is not None]
    head = listing.head_oid()
    if len(old) == len(changes):  # each ref moves on from what it was: that and HEAD stop the walk soon
        return list(dict.fromkeys([*old, *([head] if head is not None else [])]))
    if len(listing.refs) <= _TIPS_EXCLUDED_MAX:
        return list(dict.fromkeys(ref.oid for ref in listing.refs))
    branches = [ref.oid for ref in listing.under(b"refs/heads/", limit=_RECENT_TIPS)]
    return list(dict.fromkeys([*old, *([head] if head is not None else []), *branches]))


def kinds_in_pack(pack: Path, oids: Sequence[Oid]) -> dict[Oid, ObjectKind]:
    """The commits among `oids` that stand whole in the pack: most pushes need no process to know them.

    Deltas, tags and what is not in the pack are left for `kinds_of`. Blocks.
    """
    with pack.with_suffix(".idx").open("rb") as listed, pack.open("rb") as stream:
        # Mapped, not read: the index of the largest pack has half a gigabyte.
        index = PackIndex(memoryview(mmap.mmap(listed.fileno(), 0, access=mmap.ACCESS_READ)))
        return {oid: ObjectKind("commit", None) for oid in oids if _is_whole_commit(stream, index, oid)}


def _is_whole_commit(stream: BinaryIO, index: PackIndex, oid: Oid) -> bool:
    offset = index.offset_of(oid)
    if offset is None:
        return False
    first = os.pread(stream.fileno(), 1, offset)
    return bool(first) and whole_kind(first[0]) == "commit"


def kinds_of(place: GitPlace, oids: Sequence[Oid], *, limits: Limits) -> dict[Oid, ObjectKind]:
    """The kind of each object, in one process. Objects that are missing are left out."""
    if not oids:
        return {}
    asked = "".join(f"{oid}\n{oid}^{{}}\n" for oid in oids).encode()
    arguments = ["cat-file", "--batch-check=%(objectname) %(objecttype)"]
    lines = run(place, arguments, stdin=asked, limits=limits).stdout.decode("ascii", "replace").splitlines()
    kinds = {}
    for oid, itself, peeled in zip(oids, lines[::2], lines[1::2], strict=True):
        name, _, kind = itself.partition(" ")
        if name == oid and kind in {"commit", "tag", "tree", "blob"}:
            target = Oid(peeled.partition(" ")[0])
            kinds[oid] = ObjectKind(kind, target if kind == "tag" and len(target) == len(oid) else None)
    return kinds


def is_ancestor(place: GitPlace, old: Oid, new: Oid, *, limits: Limits) -> bool:
    """Whether moving a ref from `old` to `new` is a fast-forward.

    Raises `GitFailed` when git was ended before it had an answer.
    """
    try:
        run(place, ["merge-base", "--is-ancestor", old, new], limits=limits)
    except GitFailed as failed:
        if not failed.is_verdict:
            raise
        return False
    return True


def refusal_by_kind(name: RefName, found: ObjectKind | None) -> str | None:
    """Branches hold commits; anything may be tagged; nothing may point to what is not there."""
    if found is None:
        return "missing necessary objects"
    if name.startswith(b"refs/heads/") and found.kind != "commit":
        return f"cannot update ref '{shown(name)}': trying to write non-commit object to a branch"
    return None
