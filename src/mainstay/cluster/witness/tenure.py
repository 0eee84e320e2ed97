"""A primary that keeps its lease: what to ask next, and what an answer means. No input, no output, no clock.

What is not certain counts for the worse. An answer that was lost may have been a yes: so the record is looked
at before the next change, and as long as the witness *may* name a replica, that replica's word is needed for
each acknowledgement.
"""

from dataclasses import dataclass, replace

from mainstay.cluster.witness import Record, Seen
from mainstay.cluster.witness.decisions import Verdict, may_acknowledge_alone, may_write
from mainstay.cluster.witness.terms import Terms
from mainstay.storage.database.fence import Claim


@dataclass(frozen=True, slots=True)
class Look:
    """Ask for the record."""


@dataclass(frozen=True, slots=True)
class Swap:
    """Ask for a change of the record read as `version`."""

    version: str
    record: Record
    sent_s: float


class Tenure:
    """Of the site that has `me`. For one thread."""

    def __init__(self, me: Claim, terms: Terms) -> None:
        self.me = me
        self._terms = terms
        self._version: str | None = None
        self._confirmed: Record | None = None
        self._attempted: str | None = None
        self._standby: str | None = None
        """None: as the witness has it."""
        self.until_s: float | None = None
        self.lost_to: Claim | None = None
        """Who is the primary now: this tenure is over."""
        self.trouble = ""
        """Why the last question brought nothing."""

    def begin(self, version: str, record: Record, *, sent_s: float) -> None:
        """After this site has taken over, or was enrolled, by a change asked for at `sent_s`."""
        self._standby = record.standby
        self.granted(Swap(version, record, sent_s), version)

    def want(self, standby: str) -> None:
        """Which replica has to be named from now on.

        Name one only after each commit waits for it, and it has all that was acknowledged before.
        """
        self._standby = standby

    @property
    def confirmed_standby(self) -> str | None:
        """Whom the witness names; None when that is not certain."""
        if self._confirmed is None or self._attempted is not None:
            return None
        return self._confirmed.standby

    def question(self, *, now_s: float, position: int) -> Look | Swap:
        """What to ask the witness now. Ask it at once: the lease is counted from `now_s`."""
        if self._version is None or self._confirmed is None:
            return Look()
        standby = self._confirmed.standby if self._standby is None else self._standby
        record = replace(
            self._confirmed,
            name=self.me.name,
            url=self.me.url,
            standby=standby,
            position=max(position, self._confirmed.position) if standby else 0,
            term_ms=round(self._terms.term_s * 1000),
            renewal=self._confirmed.renewal + 1,
        )
        if record.standby != self._confirmed.standby:
            self._attempted = record.standby
        return Swap(self._version, record, now_s)

    def looked(self, seen: Seen | None) -> None:
        """The answer to a `Look`."""
        if seen is None:
            self.trouble = "the witness has no record: it is new, or has lost it; somebody has to enrol again"
            return
        if (seen.record.epoch, seen.record.primary) != (self.me.epoch, self.me.site_id):
            self._look_elsewhere(seen.record)
            return
        self._version, self._confirmed, self.trouble = seen.version, seen.record, ""
        # `_attempted` stays: a change that was sent may still arrive, until another one was granted.

    def granted(self, swap: Swap, version: str) -> None:
        """The answer to a `Swap` was yes."""
        self._version, self._confirmed = version, swap.record
        self._attempted, self.trouble = None, ""
        self._lasts(swap.sent_s)

    def overtaken(self) -> None:
        """The answer to a `Swap` was that there is another record."""
        self._version = None

    def unanswered(self, because: str) -> None:
        self._version, self.trouble = None, because

    def promised(self, by: str, *, sent_s: float) -> None:
        """`by` was asked at `sent_s` and waits a term. It counts if `by`, and only it, could take over."""
        possible = {self._confirmed.standby if self._confirmed else "", self._attempted or ""} - {""}
        if self.lost_to is None and self._confirmed is not None and possible == {by}:
            self._lasts(sent_s)

    def lose(self, to: Claim) -> None:
        """Another site is the primary, as was heard from anywhere."""
        self.lost_to, self.until_s = to, None

    def may_write(self, now_s: float) -> Verdict:
        if self.lost_to is not None:
            return Verdict(False, f"{self.lost_to.name or self.lost_to.site_id} is the primary now")
        return may_write(until_s=self.until_s, now_s=now_s)

    def may_acknowledge_alone(self) -> Verdict:
        return may_acknowledge_alone(self._confirmed, attempted=self._attempted)

    def _look_elsewhere(self, record: Record) -> None:
        if record.epoch < self.me.epoch:
            self.trouble = f"the witness is at epoch {record.epoch}: it has not heard of {self.me.epoch} yet"
            return
        self.lose(record.claim)

    def _lasts(self, sent_s: float) -> None:
        until_s = sent_s + self._terms.usable_s
        self.until_s = until_s if self.until_s is None else max(until_s, self.until_s)
