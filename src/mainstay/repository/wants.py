"""Which objects a client may ask for: the tips of visible refs, and what can be reached from them.

Native git serves any object by name in protocol v2, reachable or not, so the question is answered here.
A force-pushed secret, a hidden ref and another fork's object are all "not our ref".
"""

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence

from mainstay.cache.refs import RefListing
from mainstay.foundation.errors import Invalid
from mainstay.git.native.place import GitPlace, Limits
from mainstay.git.native.run import GitFailed, GitWroteTooMuch, run
from mainstay.git.objectnames import Oid

_OID_BYTES = 20
_LINE_BYTES = 41
_LISTINGS_KEPT = 8


class NotOurRef(Invalid):
    """A client wants an object that no visible ref leads to."""


class TooLargeToSearch(Invalid):
    """The repository has more objects than we look through for something that is no tip."""


class Reachable:
    """Sorted object names reachable from the refs of recent listings."""

    def __init__(self, *, objects_max: int) -> None:
        self._objects_max = objects_max
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, wants: Sequence[Oid], listing: RefListing, place: GitPlace) -> None:
        """Raise `NotOurRef` unless every want is a tip or can be reached from one. Blocks."""
        unknown = [want for want in wants if want not in listing.tips]
        if not unknown:
            return
        names = self._names(listing, place)
        for want in unknown:
            if not contains(names, bytes.fromhex(want)):
                raise NotOurRef(f"not our ref {want}")

    def _names(self, listing: RefListing, place: GitPlace) -> bytes:
        """All reachable names at this version; made once, however many ask at the same time."""
        key = (listing.repository.id, listing.version)
        with self._lock:
            names = self._kept.get(key)
            if names is None:
                names = self._walk(listing, place)
                self._kept[key] = names
                while len(self._kept) > _LISTINGS_KEPT:
                    self._kept.popitem(last=False)
            return names

    def _walk(self, listing: RefListing, place: GitPlace) -> bytes:
        tips = "".join(f"{ref.oid}\n" for ref in listing.refs).encode()
        if not tips:
            return b""
        arguments = ["rev-list", "--objects", "--no-object-names", "--use-bitmap-index", "--stdin"]
        limits = Limits(output_bytes_max=self._objects_max * _LINE_BYTES, data_bytes_max=None)
        try:
            listed = run(place, arguments, stdin=tips, limits=limits).stdout
        except GitWroteTooMuch:
            raise TooLargeToSearch("the repository is too large to look for an object by name") from None
        except GitFailed as failed:
            raise TooLargeToSearch("the repository could not be searched for the object") from failed
        return b"".join(sorted(bytes.fromhex(line.decode()) for line in listed.split()))


def contains(names: bytes, name: bytes) -> bool:
    """Whether the sorted 20-byte `names` hold `name`."""
    at = bisect_left(range(len(names) // _OID_BYTES), name, key=lambda i: names[i * 20 : i * 20 + 20])
    return names[at * _OID_BYTES : (at + 1) * _OID_BYTES] == name
