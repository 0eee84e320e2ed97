"""A replica that may take over: when it may, what it asks for, what it must not promise. No input or output.

From the moment it asks to be named until it knows the answer it promises the primary nothing: a question
whose answer was lost may still be on its way, and be granted later.
"""

from mainstay.cluster.witness import Record, Seen
from mainstay.cluster.witness.decisions import Verdict, may_promise, may_take_over
from mainstay.cluster.witness.tenure import Swap
from mainstay.cluster.witness.terms import Terms
from mainstay.storage.database.fence import Claim


class Candidacy:
    """Of one site. For one thread, or under a lock: a promise and a taking over exclude each other."""

    def __init__(self, me: Claim, terms: Terms, *, started_s: float) -> None:
        """`me` has an epoch of no meaning.

        For a term after `started_s` it neither takes over nor promises anything: what it promised before a
        restart still holds, and what it asked may still be granted.
        """
        self.me = me
        self._terms = terms
        self._settled_s = self._promised_until_s = started_s + terms.term_s
        self._asked: Swap | None = None
        self._highest = 0

    def promise(self, epoch: int, *, now_s: float) -> Verdict:
        """Promise the primary of `epoch` not to take over for a term, if that can be promised."""
        verdict = may_promise(
            is_taking_over=self._asked is not None,
            epoch=epoch,
            highest=self._highest,
            settled_left_s=self._settled_s - now_s,
        )
        if verdict:
            self._promised_until_s = max(self._promised_until_s, now_s + self._terms.term_s)
        return verdict

    def stand(self, epoch: int, *, now_s: float) -> float:
        """A person promotes this site: promise nothing any more; how long the last promise still holds."""
        self._highest = max(self._highest, epoch)
        return max(0.0, self._promised_until_s - now_s)

    def consider(
        self, seen: Seen | None, *, position: int, now_s: float, in_recovery: bool = True
    ) -> Verdict:
        if seen is not None:
            self._highest = max(self._highest, seen.record.epoch)
        return may_take_over(
            seen,
            me=self.me.site_id,
            position=position,
            promised_left_s=self._promised_until_s - now_s,
            in_recovery=in_recovery,
        )

    def take(self, seen: Seen, *, now_s: float) -> Swap:
        """What to ask after `consider` has allowed it. Stop following the primary first.

        Whatever the answer, or without one, `look` and tell `looked`; until that knows, ask the same again.
        """
        if self._asked is None:
            self._asked = Swap(seen.version, self._record(seen.record), now_s)
        return self._asked

    @property
    def asked(self) -> Swap | None:
        """The question whose answer is awaited."""
        return self._asked

    def looked(self, seen: Seen | None) -> Swap | None:
        """What a look says of the question: granted (it is returned), refused, or not known yet (None)."""
        asked = self._asked
        if asked is None or seen is None or seen.version == asked.version:
            return None
        self._asked = None
        if seen.record == asked.record:
            return asked
        self._highest = max(self._highest, seen.record.epoch)
        return None

    def named(self, seen: Seen | None, *, now_s: float) -> Swap | None:
        """A question of before a restart that was granted: this site is named, and has not reigned yet.

        It may go on, after what it has promised since: nothing was acknowledged that it has not confirmed.
        The lease of that question counts as over.
        """
        if self._asked is not None or seen is None or now_s < self._promised_until_s:
            return None
        if seen.record.primary != self.me.site_id or seen.record.renewal > 0:
            return None
        return Swap(seen.version, seen.record, now_s - self._terms.term_s)

    def _record(self, before: Record) -> Record:
        return Record(
            epoch=before.epoch + 1,
            primary=self.me.site_id,
            name=self.me.name,
            url=self.me.url,
            term_ms=round(self._terms.term_s * 1000),
        )
