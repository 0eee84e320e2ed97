"""The thread in which a synchronous replica waits for the primary to fall silent, and then takes over.

`candidacy` driven by the clock and the witness. How a database stops following and is promoted is the affair
of whoever gives a `Follower`.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from mainstay.cluster.witness import BadRecord, Overtaken, Record, Seen, Witness, WitnessAway
from mainstay.cluster.witness.candidacy import Candidacy
from mainstay.cluster.witness.decisions import Verdict
from mainstay.cluster.witness.terms import Terms
from mainstay.foundation.boots import since_boot_s
from mainstay.foundation.logs import get_logger
from mainstay.storage.database.fence import Claim

log = get_logger()


@dataclass(frozen=True, slots=True)
class Granted:
    """The site was named."""

    record: Record
    version: str
    sent_s: float
    """From when the lease counts."""


class Follower(Protocol):
    """The database of a replica."""

    def position(self) -> int | None:
        """What it has of the log, safe on its own disk; None: it follows nobody, or is away."""
        ...

    def stop_following(self) -> None:
        """From when this returns, it confirms nothing to the primary. Raises `MainstayError`."""
        ...

    def follow_again(self) -> None: ...

    def promote(self, granted: Granted) -> None:
        """The witness names this site: become the primary, and go on with its lease (`Tenure.begin`)."""
        ...


class Watcher:
    """Of one replica, from `start` to `close`, or until it has taken over."""

    def __init__(
        self,
        me: Claim,
        *,
        witness: Witness,
        follower: Follower,
        terms: Terms,
        clock_s: Callable[[], float] = since_boot_s,
    ) -> None:
        self._candidacy = Candidacy(me, terms, started_s=clock_s())
        self._witness = witness
        self._follower = follower
        self._terms = terms
        self._clock_s = clock_s
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.latest = Verdict(False, "not looked yet")
        """The last decision, for the status page."""

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="witness-watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self._terms.term_s)

    def promise(self, epoch: int) -> Verdict:
        """What the primary's `Voter.promise` asks. Never waits for the witness."""
        if not self._turn.acquire(timeout=self._terms.renew_every_s):
            return Verdict(False, "this site is deciding whether to take over")
        try:
            return self._candidacy.promise(epoch, now_s=self._clock_s())
        finally:
            self._turn.release()

    def stand(self, epoch: int) -> float:
        """A person promotes this site to `epoch`: see `Candidacy.stand`."""
        with self._turn:
            return self._candidacy.stand(epoch, now_s=self._clock_s())

    @property
    def is_asking(self) -> bool:
        """Whether this site asked to be named, and does not know the answer; it follows nobody meanwhile."""
        return self._candidacy.asked is not None or self._turn.locked()

    def look(self) -> bool:
        """Look once, and take over if that may be; whether it was done."""
        try:
            seen = self._witness.look()
        except WitnessAway as away:
            self._say(Verdict(False, str(away)))
            return False
        with self._turn:
            granted = self._named(seen) or (
                self._settle(seen) if self._candidacy.asked else self._consider(seen)
            )
        if granted is None:
            return False
        log.info("witness.taken_over", epoch=granted.record.epoch, because=self.latest.because)
        self._follower.promote(granted)
        return True

    def _run(self) -> None:
        while not self._stopping.wait(self._terms.renew_every_s):
            if self.look():
                return

    def _named(self, seen: Seen | None) -> Granted | None:
        """What was granted before this process was started."""
        named = self._candidacy.named(seen, now_s=self._clock_s())
        if named is None or self._follower.position() is None:
            return None
        self._follower.stop_following()
        return Granted(named.record, named.version, named.sent_s)

    def _consider(self, seen: Seen | None) -> Granted | None:
        if not self._may(seen) or seen is None:
            return None
        self._follower.stop_following()
        # What it confirmed until just now counts: so the position is asked for again.
        if not self._may(seen):
            self._follower.follow_again()
            return None
        self._candidacy.take(seen, now_s=self._clock_s())
        return self._claim()

    def _settle(self, seen: Seen | None) -> Granted | None:
        """What has become of the question that was asked before."""
        granted = self._known(seen)
        return self._claim() if granted is None and self._candidacy.asked else granted

    def _claim(self) -> Granted | None:
        """Ask to be named. It is the look afterwards that counts."""
        asked = self._candidacy.asked
        assert asked is not None, "called while something is asked"
        try:
            with suppress(Overtaken):
                self._witness.swap(asked.version, asked.record)
            return self._known(self._witness.look())
        except (WitnessAway, BadRecord) as error:
            log.warning("witness.take_over_unanswered", because=str(error))
            return None

    def _known(self, seen: Seen | None) -> Granted | None:
        granted = self._candidacy.looked(seen)
        if granted is not None and seen is not None:
            return Granted(granted.record, seen.version, granted.sent_s)
        if self._candidacy.asked is None:
            log.info("witness.take_over_refused")
            self._follower.follow_again()
        return None

    def _may(self, seen: Seen | None) -> Verdict:
        position = self._follower.position()
        verdict = self._candidacy.consider(
            seen, position=position or 0, now_s=self._clock_s(), in_recovery=position is not None
        )
        self._say(verdict)
        return verdict

    def _say(self, verdict: Verdict) -> None:
        if verdict.is_allowed != self.latest.is_allowed:
            log.info("witness.considered", allowed=verdict.is_allowed, because=verdict.because)
        self.latest = verdict
