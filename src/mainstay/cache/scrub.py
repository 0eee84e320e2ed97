"""Look through the cache without a reason, a little every minute, so that damage is found that nobody reads.

All copies come round, in the order of their repositories. In a minute about 256 MiB are read, which takes a
second: a full cache of 50 GiB comes round in three and a half hours. A copy that is larger than a minute's
share is read at once, and the minutes that it would have taken are kept free.
"""

import os
from pathlib import Path

import structlog

from mainstay.cache.locks import shared
from mainstay.cache.mending import Mender
from mainstay.foundation.errors import MainstayError
from mainstay.storage.ledger import Ledger, Repository

_BYTES_PER_ROUND = 256 << 20
_PAGES_PER_ROUND = 20
_PAGE = 1000

log = structlog.get_logger()


class Scrub:
    """Where we are in the cache at `directory`. One process of a node does this."""

    def __init__(
        self, directory: Path, *, ledger: Ledger, mender: Mender, bytes_per_round: int = _BYTES_PER_ROUND
    ) -> None:
        self._copies = directory / "copies"
        self._at = directory / "scrubbed"
        self._ledger = ledger
        self._mender = mender
        self._bytes_per_round = bytes_per_round
        self._allowed_bytes = 0

    def go_on(self) -> int:
        """One round. Returns how many copies had damage."""
        self._allowed_bytes = min(self._allowed_bytes + self._bytes_per_round, self._bytes_per_round)
        damaged = 0
        for _ in range(_PAGES_PER_ROUND):
            page = self._ledger.repositories(after_id=self._last_id(), limit=_PAGE)
            for repository in page:
                if self._allowed_bytes <= 0:
                    return damaged
                damaged += self._look_at(repository)
                self._note(repository.id)
            if len(page) < _PAGE:
                self._note(0)
                break
        return damaged

    def _look_at(self, repository: Repository) -> bool:
        """Without bringing anything here, and without counting as a use."""
        directory = self._copies / repository.uid / str(repository.manifest_version)
        pin = shared(directory / "pin")
        if pin is None:
            return False
        try:
            packs = tuple(self._ledger.packs(repository.id)[2])
            self._allowed_bytes -= sum(pack.size_bytes for pack in packs)
            return self._mender.mend(directory, packs)
        except MainstayError as failed:  # the next repository is looked at all the same
            log.warning("cache.not_mended", repository=repository.uid, because=str(failed))
            return True
        finally:
            os.close(pin)

    def _last_id(self) -> int:
        try:
            return int(self._at.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _note(self, repository_id: int) -> None:
        self._at.parent.mkdir(parents=True, exist_ok=True)
        self._at.write_text(str(repository_id))
