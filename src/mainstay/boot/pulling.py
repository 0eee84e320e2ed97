"""What a replica pulls from the primary: everything, or as a cache what its patterns name."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Final

from mainstay.boot.replica import not_packs, pull_directory
from mainstay.boot.stores import Stores
from mainstay.cluster.sites.line import Line
from mainstay.cluster.sites.puller import Puller
from mainstay.cluster.sites.registry import Site
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.logs import get_logger
from mainstay.ops.sites.patterns import matches
from mainstay.storage.objects.opening import open_object_store

log = get_logger()

_STOP_S: Final = 10.0
_KEPT_MAX: Final = 100_000


class Kept:
    """Which keys a cache is to have: all but packs, and the packs of projects that its patterns name."""

    def __init__(self, stores: Stores, patterns: Sequence[str]) -> None:
        self._stores = stores
        self._patterns = patterns
        self._lock = threading.Lock()
        self._known: dict[str, bool] = {}

    def __call__(self, key: str) -> bool:
        """A repository whose row has not come yet is taken: too much does no harm."""
        if not_packs(key):
            return True
        uid = key.split("/")[1]
        with self._lock:
            if uid in self._known:
                return self._known[uid]
        path = self._path_of(uid)
        is_kept = path is None or matches(self._patterns, path)
        with self._lock:
            if path is not None:
                if len(self._known) >= _KEPT_MAX:
                    self._known.clear()
                self._known[uid] = is_kept
        return is_kept

    def _path_of(self, uid: str) -> str | None:
        with self._stores.database.read() as tx:
            row = tx.row("SELECT identity FROM ledger_repository WHERE uid = ?", (uid,))
        return str(json.loads(row[0]).get("full_path", "")) if row else None


class Pulling:
    """Runs the puller of a replica, in a thread, towards whoever is the primary now."""

    def __init__(self, stores: Stores) -> None:
        self._data = stores.settings.data
        # The bare store: what comes from the primary is no news of ours.
        self._objects = open_object_store(stores.settings.object_store)
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self._of = ""

    def towards(
        self,
        site: Site,
        line: Line,
        *,
        wants: Callable[[str], bool],
        landed: Callable[[str], None],
        keep_deleted_s: int,
    ) -> None:
        """Idempotent."""
        if self._of == site.id and self._thread is not None and self._thread.is_alive():
            return
        self.rest()
        self._stop, self._of = threading.Event(), site.id
        puller = Puller(
            line,
            self._objects,
            pull_directory(self._data),
            clock=SYSTEM,
            wants=wants,
            landed=landed,
            keep_deleted_s=keep_deleted_s,
        )
        self._thread = threading.Thread(target=puller.run, args=(self._stop,), name="puller", daemon=True)
        self._thread.start()
        log.info("sites.pulling", site=site.name)

    def rest(self) -> None:
        """It writes how far it is. What is under way breaks off."""
        if self._stop is not None and self._thread is not None:
            self._stop.set()
            self._thread.join(_STOP_S)
        self._stop = self._thread = None
