"""Which objects a client may ask for: the tips of visible refs, and what can be reached from them.

Native git serves any object by name in protocol v2, reachable or not, so the question is answered here.
A force-pushed secret, a hidden ref and another fork's object are all "not our ref".
"""

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mainstay.cache.refs import RefListing
from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.git.native.place import GitPlace, Limits
from mainstay.git.native.run import GitFailed, GitTookTooLong, GitWroteTooMuch, run
from mainstay.git.objectnames import Oid
from mainstay.repository.inspection import kinds_of

_OID_BYTES = 20
_LINE_BYTES = 41
_LISTINGS_KEPT = 8
_COMMITS_MAX = 1_000
_HISTORY_S_MAX = 60

_Key = tuple[str, int]
"""Repository and version."""


class NotOurRef(Invalid):
    """A client wants an object that no visible ref leads to."""


class TooLargeToSearch(Invalid):
    """The repository has more objects than we look through for something that is no tip."""


class SearchEnded(Unavailable):
    """Git was ended while it searched; that says nothing about the object."""


@dataclass(slots=True)
class _Walk:
    lock: threading.Lock = field(default_factory=threading.Lock)
    asked_by: int = 0


class Reachable:
    """Sorted object names reachable from the refs of recent listings."""

    def __init__(self, *, objects_max: int) -> None:
        self._objects_max = objects_max
        self._kept: OrderedDict[_Key, bytes] = OrderedDict()
        self._walks: dict[_Key, _Walk] = {}
        self._lock = threading.Lock()

    def check(self, wants: Sequence[Oid], listing: RefListing, place: GitPlace) -> None:
        """Raise `NotOurRef` unless every want is a tip or can be reached from one. Blocks.

        Commits are looked for in the history, which takes milliseconds: whoever fetches while somebody pushes
        wants what was a tip a moment ago. Only other objects need the names of all; that may raise
        `TooLargeToSearch` and `SearchEnded`.
        """
        unknown = [want for want in dict.fromkeys(wants) if want not in listing.tips]
        if not unknown or are_in_history(unknown, listing, place):
            return
        names = self._names(listing, place)
        for want in unknown:
            if not contains(names, bytes.fromhex(want)):
                raise NotOurRef(f"not our ref {want}")

    def _names(self, listing: RefListing, place: GitPlace) -> bytes:
        """All reachable names at this version; made once, however many ask at the same time.

        Others who ask about another repository do not wait for that.
        """
        key = (listing.repository.uid, listing.version)
        with self._lock_of(key):
            names = self._kept.get(key)
            if names is None:
                names = self._walk(listing, place)
                self._keep(key, names)
        return names

    @contextmanager
    def _lock_of(self, key: _Key) -> Iterator[None]:
        """One lock per listing, there while somebody holds it or waits for it."""
        with self._lock:
            walk = self._walks.setdefault(key, _Walk())
            walk.asked_by += 1
        try:
            with walk.lock:
                yield
        finally:
            with self._lock:
                walk.asked_by -= 1
                if not walk.asked_by:
                    del self._walks[key]

    def _keep(self, key: _Key, names: bytes) -> None:
        with self._lock:
            self._kept[key] = names
            while len(self._kept) > _LISTINGS_KEPT:
                self._kept.popitem(last=False)

    def _walk(self, listing: RefListing, place: GitPlace) -> bytes:
        tips = "".join(f"{ref.oid}\n" for ref in listing.refs).encode()
        if not tips:
            return b""
        arguments = ["rev-list", "--objects", "--no-object-names", "--use-bitmap-index", "--stdin"]
        limits = Limits(output_bytes_max=self._objects_max * _LINE_BYTES, data_bytes_max=None)
        try:
            listed = run(place, arguments, stdin=tips, limits=limits).stdout
        except (GitWroteTooMuch, GitTookTooLong):
            raise TooLargeToSearch("the repository is too large to look for an object by name") from None
        except GitFailed as failed:
            if not failed.is_verdict:
                raise SearchEnded("the search for an object was ended: try again") from failed
            raise TooLargeToSearch("the repository could not be searched for the object") from failed
        return b"".join(sorted(bytes.fromhex(line.decode()) for line in listed.split()))


def are_in_history(wants: Sequence[Oid], listing: RefListing, place: GitPlace) -> bool:
    """Whether all of `wants` are commits that a visible ref leads to. False, too, when that is not known.

    Only what is known to be a commit is asked for: `rev-list` passes over everything else without a word.
    Raises `NotOurRef` for what is no object here at all.
    """
    if len(wants) > _COMMITS_MAX or not listing.refs:
        return False
    limits = Limits(data_bytes_max=None, wall_s_max=_HISTORY_S_MAX)
    try:
        kinds = kinds_of(place, wants, limits=limits)
        if (missing := next((want for want in wants if want not in kinds), None)) is not None:
            raise NotOurRef(f"not our ref {missing}")
        if any(found.kind != "commit" for found in kinds.values()):
            return False
        tips = dict.fromkeys(ref.peeled or ref.oid for ref in listing.refs)
        asked = "".join(f"{line}\n" for line in [*wants, *(f"^{tip}" for tip in tips)])
        left = run(place, ["rev-list", "--max-count=1", "--stdin"], stdin=asked.encode(), limits=limits)
    except GitFailed:
        return False
    return not left.stdout.strip()


def contains(names: bytes, name: bytes) -> bool:
    """Whether the sorted 20-byte `names` hold `name`."""
    at = bisect_left(range(len(names) // _OID_BYTES), name, key=lambda i: names[i * 20 : i * 20 + 20])
    return names[at * _OID_BYTES : (at + 1) * _OID_BYTES] == name
