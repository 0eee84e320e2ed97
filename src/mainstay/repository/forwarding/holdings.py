"""What of a repository is on this site. Blocks: a query, and a look at the object store for new packs."""

import threading
from collections import OrderedDict

from mainstay.repository.forwarding.decisions import Here
from mainstay.storage.ledger import Ledger, NoSuchRepository, Pack
from mainstay.storage.objects import ObjectStore
from mainstay.storage.sweep import keys_of

_KNOWN_MAX = 100_000


class Holdings:
    """`objects` says of an object that has not come yet that it is not there. Safe for threads."""

    def __init__(self, ledger: Ledger, objects: ObjectStore) -> None:
        self._ledger = ledger
        self._objects = objects
        self._whole: OrderedDict[str, None] = OrderedDict()
        """Packs that were seen here: a pack of a manifest does not go away."""
        self._lock = threading.Lock()

    def of(self, repository_id: int, *, at_least: int) -> Here | None:
        """None when the repository is not here. Its packs are only looked at if its version will do."""
        try:
            version, _, packs = self._ledger.packs(repository_id)
        except NoSuchRepository:
            return None
        if version < at_least:
            return Here(version, is_complete=False)
        return Here(version, is_complete=all(map(self._is_whole, packs)))

    def _is_whole(self, pack: Pack) -> bool:
        name = f"{pack.id} {' '.join(pack.artefacts)}"  # side-files may come later
        with self._lock:
            if name in self._whole:
                return True
        if any(self._objects.size_bytes(key) is None for key in keys_of(pack)):
            return False
        with self._lock:
            self._whole[name] = None
            while len(self._whole) > _KNOWN_MAX:
                self._whole.popitem(last=False)
        return True
