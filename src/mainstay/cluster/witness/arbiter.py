"""The witness as a promotion by a person sees it (`cluster.epochs.raising.Arbiter`), and how sites enrol."""

import time
from collections.abc import Callable
from typing import Final

from mainstay.cluster.epochs import Superseded
from mainstay.cluster.witness import Overtaken, Record, Seen, Witness, WitnessAway
from mainstay.cluster.witness.terms import Terms
from mainstay.foundation.logs import get_logger
from mainstay.storage.database.fence import Claim

log = get_logger()

_ATTEMPTS_MAX: Final = 20
"""Against a primary that renews between our look and our change."""


class WitnessArbiter:
    """For `raise_epoch(witness=…)`."""

    def __init__(
        self, witness: Witness, terms: Terms, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._witness = witness
        self._terms = terms
        self._sleep = sleep

    def last(self) -> Claim | None:
        seen = self._witness.look()
        return seen.record.claim if seen else None

    def name(self, claim: Claim) -> None:
        """Return when the witness names `claim` and the lease of whom it named before has ended.

        A witness without a record is enrolled by it: it is a person who promotes.
        """
        before = self._put(claim)
        if before is not None and before.record.primary != claim.site_id:
            self._wait_out(before)

    def enrol(self, claim: Claim) -> None:
        """Begin anew as the primary that `claim` says: no replica may take over until one is named again.

        Raises `Superseded`.
        """
        self._put(claim, afresh=True)

    def hand_over(self, claim: Claim) -> None:
        """Let it name another site in the place of ours, which has stopped writing. Nobody waits."""
        self._put(claim)

    def _put(self, claim: Claim, *, afresh: bool = False) -> Seen | None:
        """Make `claim` the record; what it was before, None when it was that already, or there was none."""
        for _ in range(_ATTEMPTS_MAX):
            seen = self._witness.look()
            if seen is not None and _is_settled(seen, claim) and not afresh:
                return None
            try:
                self._witness.swap(seen.version if seen else None, first_record(claim, self._terms))
            except Overtaken:
                continue
            log.info("witness.named", epoch=claim.epoch, primary=claim.name or claim.site_id)
            return seen
        raise WitnessAway(f"the witness's record changed {_ATTEMPTS_MAX} times while it was being changed")

    def _wait_out(self, seen: Seen) -> None:
        """Whoever was named before may write until its term is over."""
        self._sleep(max(0.0, seen.record.term_ms / 1000 - seen.age_s))


def first_record(claim: Claim, terms: Terms) -> Record:
    """Of a site that has just become the primary: no replica has everything yet."""
    return Record(
        epoch=claim.epoch,
        primary=claim.site_id,
        name=claim.name,
        url=claim.url,
        term_ms=round(terms.term_s * 1000),
    )


def _is_settled(seen: Seen, claim: Claim) -> bool:
    found = seen.record
    if found.epoch > claim.epoch or (found.epoch == claim.epoch and found.primary != claim.site_id):
        raise Superseded(
            f"epoch {claim.epoch}: the witness names {found.name or found.primary!r} at epoch {found.epoch}"
        )
    return found.epoch == claim.epoch
