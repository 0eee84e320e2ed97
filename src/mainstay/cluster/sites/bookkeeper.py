"""Takes what sites acknowledge: at once for the processes of this node, every few seconds for the registry.

What the registry says is for people and for a promotion's report. That a write fails there, because the
database is away or this site is not the primary, is tried again with the next round.
"""

import threading
from typing import Final

from mainstay.cluster.sites.positions import Acknowledged, Positions
from mainstay.cluster.sites.registry import note_acknowledged
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.logs import get_logger
from mainstay.storage.database import Database

log = get_logger()

EVERY_S: Final = 5.0
_STOP_S: Final = 5.0


class Bookkeeper:
    """One per process that serves the line between sites."""

    def __init__(self, database: Database, positions: Positions, *, every_s: float = EVERY_S) -> None:
        self._database = database
        self._positions = positions
        self._every_s = every_s
        self._lock = threading.Lock()
        self._unwritten: dict[str, Acknowledged] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="sites-bookkeeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def note(self, site_id: str, found: Acknowledged) -> None:
        self._positions.note(site_id, found)
        with self._lock:
            self._unwritten[site_id] = found

    def write(self) -> None:
        """What came since the last time."""
        with self._lock:
            due, self._unwritten = self._unwritten, {}
        for site_id, found in due.items():
            try:
                note_acknowledged(
                    self._database,
                    site_id,
                    feed=found.identity,
                    position=found.position,
                    at_ms=found.at_ms,
                )
            except (MainstayError, OutcomeUnknown) as failed:
                log.debug("sites.position_not_written", site_id=site_id, because=str(failed))

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.write()
        self.write()
