"""Ref listings in memory, each exactly as fresh as the version it was asked for.

Every look-up starts with a strong read of the repository's version; equal version means equal refs, so
nothing here can be stale. A listing that is a little behind is advanced by the log's tail instead of being
read again.
"""

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from mainstay.access.policy import HIDDEN_PREFIXES
from mainstay.foundation.errors import Unavailable
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.storage.ledger import Ledger, Ref, RefChange, Repository

_TAIL_MAX = 2_000
"""Above this many moved refs, reading them all is as quick as replaying them."""
_LOOKS_MAX = 100
"""A look takes about a millisecond."""


class RestlessRefs(Unavailable):
    """Pushes came faster than the refs could be read."""


@dataclass(frozen=True)
class RefListing:
    """All refs of a repository that clients may see, at one version, sorted by name."""

    repository: Repository
    refs: tuple[Ref, ...]
    encoded: dict[Hashable, bytes] = field(default_factory=dict)
    """Wire forms made from this listing, kept by whoever made them. Benign race: equal bytes twice."""

    @property
    def version(self) -> int:
        return self.repository.version

    def find(self, name: RefName) -> Ref | None:
        """The ref of this name, found by bisection: a new listing costs nothing to look into."""
        at = bisect_left(self.refs, bytes(name), key=_name_of)
        return self.refs[at] if at < len(self.refs) and self.refs[at].name == name else None

    @cached_property
    def tips(self) -> frozenset[Oid]:
        """What the refs point to, and what their tags finally point to."""
        return frozenset(oid for ref in self.refs for oid in (ref.oid, ref.peeled) if oid is not None)

    @cached_property
    def lines(self) -> list[tuple[RefName, Oid, Oid | None]]:
        """The refs as the protocol encoders take them."""
        return [(ref.name, ref.oid, ref.peeled) for ref in self.refs]

    def under(self, prefix: bytes, *, limit: int | None = None) -> Sequence[Ref]:
        """The refs whose name starts with `prefix`, at most the first `limit` of them."""
        start = bisect_left(self.refs, prefix, key=_name_of)
        end = bisect_left(self.refs, prefix + b"\xff", lo=start, key=_name_of)
        return self.refs[start : end if limit is None else min(end, start + limit)]

    def head_oid(self) -> Oid | None:
        """What HEAD finally points to, or None while its branch is unborn."""
        head = self.find(self.repository.head)
        return head.oid if head is not None else None


class RefListings:
    """Recent listings, bounded by the number of refs they hold together."""

    def __init__(self, ledger: Ledger, *, refs_max: int) -> None:
        self._ledger = ledger
        self._refs_max = refs_max
        self._kept: OrderedDict[int, RefListing] = OrderedDict()
        self._lock = threading.Lock()

    def latest(self, repository_id: int) -> RefListing:
        """The refs as of now: sees every push acknowledged before the call.

        Refs and repository row must be of one version. When a push comes between the looks, only what it
        moved is read, so that reading many refs catches up with a repository that never rests.
        """
        with self._lock:
            base = self._kept.get(repository_id)
            if base is not None:
                self._kept.move_to_end(repository_id)
        for _ in range(_LOOKS_MAX):
            repository = self._ledger.repository(repository_id)
            if base is None or base.repository != repository:
                base = self._advanced(base, repository) or self._read(repository)
            if base.repository == repository:
                self._keep(base)
                return base
        raise RestlessRefs(f"the refs moved {_LOOKS_MAX} times while they were read: try again")

    def unmoved(self, repository_id: int) -> RefListing | None:
        """The refs as of now if they are those that were kept, found out by one look; else None."""
        with self._lock:
            kept = self._kept.get(repository_id)
        if kept is None or self._ledger.repository(repository_id) != kept.repository:
            return None
        self._keep(kept)
        return kept

    def _read(self, repository: Repository) -> RefListing:
        version, refs = self._ledger.refs(repository.id)
        return RefListing(replace(repository, version=version), tuple(visible(refs)))

    def _advanced(self, base: RefListing | None, repository: Repository) -> RefListing | None:
        """`base` brought to the newest version by the tail of the log, or None when that is of no use."""
        if base is None:
            return None
        tail = self._ledger.ref_changes(repository.id, after=base.version, limit=_TAIL_MAX)
        if tail is None:
            return None
        version, changes = tail
        moved = [change for _, change in changes]
        refs = replayed(base.refs, moved) if moved else base.refs
        return RefListing(replace(repository, version=version), refs)

    def _keep(self, listing: RefListing) -> None:
        with self._lock:
            self._kept[listing.repository.id] = listing
            self._kept.move_to_end(listing.repository.id)
            total = sum(len(kept.refs) for kept in self._kept.values())
            while total > self._refs_max and len(self._kept) > 1:
                total -= len(self._kept.popitem(last=False)[1].refs)


def visible(refs: Iterable[Ref]) -> Iterable[Ref]:
    return (ref for ref in refs if not ref.name.startswith(HIDDEN_PREFIXES))


def replayed(refs: Sequence[Ref], changes: Iterable[RefChange]) -> tuple[Ref, ...]:
    """`refs` after `changes`, still sorted. Hidden refs stay out.

    Each change is a bisection and a shift of pointers, so a push to a repository of 100,000 refs does not
    pay for all of them.
    """
    now = list(refs)
    for change in changes:
        if change.name.startswith(HIDDEN_PREFIXES):
            continue
        at = bisect_left(now, bytes(change.name), key=_name_of)
        present = at < len(now) and now[at].name == change.name
        fresh = [] if change.new == ZERO_OID else [Ref(change.name, change.new, change.peeled)]
        now[at : at + present] = fresh
    return tuple(now)


def _name_of(ref: Ref) -> bytes:
    return ref.name
