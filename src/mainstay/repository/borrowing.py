"""What a push refers to without bringing it has to be visible already.

The local copy holds more than its clients may see: what a force push took away, what hidden refs reach, what
a fork's source keeps. Whoever knows the name of such an object could push a ref, a commit or a tree that
names it, and then fetch it. An honest client never needs to: it sends all that the refs shown to it do not
lead to.

Not here: may an object be fetched by its name (`wants`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from mainstay.cache.refs import RefListing
from mainstay.foundation.errors import Invalid
from mainstay.git.native.place import GitPlace, Limits
from mainstay.git.objectnames import Oid
from mainstay.git.packs import PackIndex
from mainstay.repository.inspection import is_connected
from mainstay.repository.wants import NotOurRef, Reachable

_KEPT_MAX = 1_000_000
"""Borrowed names that are looked up; an honest push borrows next to nothing."""

log = structlog.get_logger()


class BorrowsTooMuch(Invalid):
    """The push refers to more objects that it does not bring than are looked up."""


class _Borrowed:
    """The objects that a walk passes and the client did not bring. `hear` takes the walk's output."""

    def __init__(self, index: PackIndex, *, objects: int) -> None:
        self._index = index
        # What index-pack has put at the end are bases of the client's deltas, which it did not bring either.
        self._end = index.start_of_last(index.count - objects)
        self._rest = b""
        self.names: list[Oid] = []
        self.are_too_many = False

    def hear(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name = Oid(line.decode("ascii"))
            offset = self._index.offset_of(name)
            if offset is None or offset >= self._end:
                self._keep(name)

    def _keep(self, name: Oid) -> None:
        self.are_too_many = len(self.names) >= _KEPT_MAX
        if not self.are_too_many:
            self.names.append(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lender:
    """Judges one push: what it brought, and what could be seen when it began."""

    place: GitPlace
    pack: Path
    """As index-pack left it."""
    objects: int
    """What the client announced."""
    listing: RefListing
    limits: Limits
    reachable_objects_max: int

    def is_whole(self, new: Sequence[Oid], *, known: Sequence[Oid]) -> bool:
        """Whether all that `new` reaches was brought or is visible, given that it is for the `known` tips.

        Blocks. Raises `TooDeep`, `BorrowsTooMuch`, `TooLargeToSearch`.
        """
        if not any(self.place.alternates[0].glob("pack/*.pack")):
            # Nothing is here that could be borrowed: the first push, which may be a very large one.
            return is_connected(self.place, new, known=known, limits=self.limits)
        borrowed = self._borrowed(new, known)
        tips = {ref.oid for ref in self.listing.refs}
        if borrowed is not None and borrowed.names and not tips <= set(known):
            borrowed = self._borrowed(new, list(tips))
        return borrowed is not None and self._are_visible(borrowed)

    def _borrowed(self, new: Sequence[Oid], known: Sequence[Oid]) -> _Borrowed | None:
        """What the walk finds borrowed, or None when it finds something missing."""
        index = PackIndex(self.pack.with_suffix(".idx").read_bytes())
        borrowed = _Borrowed(index, objects=self.objects)
        whole = is_connected(self.place, new, known=known, limits=self.limits, hear=borrowed.hear)
        return borrowed if whole else None

    def _are_visible(self, borrowed: _Borrowed) -> bool:
        if borrowed.are_too_many:
            raise BorrowsTooMuch(f"the push refers to more than {_KEPT_MAX} objects that it does not bring")
        try:
            reachable = Reachable(objects_max=self.reachable_objects_max)
            reachable.check(borrowed.names, self.listing, self.place)
        except NotOurRef as refused:
            log.warning("push.borrowed_the_invisible", reason=str(refused))
            return False
        return True
