"""The thread in which a primary keeps its lease: `tenure` driven by the clock, the witness and the replica.

What it is granted is written where every process of the site sees it (`lease.json`), before anybody writes
under it. When the witness is away, the synchronous replica is asked to wait for a term.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from mainstay.cluster.witness import BadRecord, Overtaken, Witness, WitnessAway
from mainstay.cluster.witness.decisions import Verdict
from mainstay.cluster.witness.tenure import Look, Swap, Tenure
from mainstay.cluster.witness.terms import Terms
from mainstay.foundation.boots import boot_id, since_boot_s
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, gauge
from mainstay.foundation.private_files import replace_file
from mainstay.storage.database.fence import LEASE_FILE, Claim, Permit, permit_text

log = get_logger()

_RENEWALS = counter("witness_renewals_total", "Attempts to renew the lease of the primary.", ["outcome"])
_LEFT_S = gauge("witness_lease_seconds", "How long the primary may still write without another vote.")
_QUESTIONS_MAX: Final = 3
"""A look, a change, and one more change after somebody else's."""


class Voter(Protocol):
    """The synchronous replica, as the primary reaches it."""

    @property
    def site_id(self) -> str: ...

    def promise(self, epoch: int) -> bool:
        """Whether it waits for a term, counted by itself from when it answers (`candidacy`).

        Within a second or two. Raises `MainstayError` when it does not answer.
        """
        ...


class PermitFile:
    """`DATA/run/lease.json`. Not synced: it is of this boot, and ends within seconds."""

    def __init__(self, data: Path, *, boot: Callable[[], str] = boot_id) -> None:
        self._file = data / LEASE_FILE
        self._boot = boot()

    def write(self, epoch: int, until_s: float) -> None:
        replace_file(self._file, permit_text(Permit(epoch, self._boot, until_s)))

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)


class Keeper:
    """Keeps the lease of the site that has `me`, from `start` to `close`, or until another is the primary."""

    def __init__(
        self,
        me: Claim,
        *,
        witness: Witness,
        permit: PermitFile,
        voter: Callable[[], Voter | None],
        position: Callable[[], int],
        lost: Callable[[Claim], object],
        terms: Terms,
        clock_s: Callable[[], float] = since_boot_s,
    ) -> None:
        """`position`: how far the named standby has confirmed. `lost` hears once who the primary is now."""
        self.tenure = Tenure(me, terms)
        self._witness = witness
        self._permit = permit
        self._voter = voter
        self._position = position
        self._lost = lost
        self._terms = terms
        self._clock_s = clock_s
        self._turn = threading.Lock()
        self._due = threading.Event()
        self._is_closed = False
        self._written_s: float | None = None
        self._thread: threading.Thread | None = None

    def may_write(self) -> Verdict:
        """As things are, without asking."""
        with self._turn:
            return self.tenure.may_write(self._clock_s())

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="witness-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closed = True
        self._due.set()
        if self._thread is not None:
            self._thread.join(self._terms.term_s)

    def name_standby(self, standby: str) -> Verdict:
        """Let the witness name `standby`, or nobody (empty); whether it has confirmed that.

        Nobody: only then may a commit be acknowledged that the replica does not have. Somebody: call it after
        commits wait for that replica, and it has all that was acknowledged before.
        """
        with self._turn:
            self.tenure.want(standby)
        self.renew()
        if standby:
            is_named = self.tenure.confirmed_standby == standby
            return Verdict(is_named, "the witness names it" if is_named else self.tenure.trouble)
        return self.tenure.may_acknowledge_alone()

    def renew(self) -> Verdict:
        """Ask for another term now."""
        with self._turn:
            if self.tenure.lost_to is None:
                self._ask()
                self._publish()
            return self.tenure.may_write(self._clock_s())

    def _run(self) -> None:
        while not self._is_closed and self.tenure.lost_to is None:
            self.renew()
            self._due.wait(self._terms.renew_every_s)

    def _ask(self) -> None:
        for _ in range(_QUESTIONS_MAX):
            question = self.tenure.question(now_s=self._clock_s(), position=self._position())
            try:
                self._answer(question)
            except Overtaken:
                self.tenure.overtaken()
                continue
            except (WitnessAway, BadRecord) as error:
                self._miss(str(error))
                return
            if isinstance(question, Swap) or self.tenure.trouble or self.tenure.lost_to:
                break
        if self.tenure.trouble:
            self._miss(self.tenure.trouble)

    def _answer(self, question: Look | Swap) -> None:
        if isinstance(question, Look):
            self.tenure.looked(self._witness.look())
            return
        self.tenure.granted(question, self._witness.swap(question.version, question.record))
        _RENEWALS.labels("granted").inc()

    def _miss(self, because: str) -> None:
        """Without the witness, the replica's word."""
        self.tenure.unanswered(because)
        _RENEWALS.labels("missed").inc()
        log.warning("witness.renewal_missed", because=because)
        voter = self._voter()
        if voter is None:
            return
        sent_s = self._clock_s()
        try:
            if voter.promise(self.tenure.me.epoch):
                self.tenure.promised(voter.site_id, sent_s=sent_s)
                _RENEWALS.labels("promised").inc()
        except MainstayError as error:
            log.warning("witness.no_promise", because=str(error))

    def _publish(self) -> None:
        if self.tenure.lost_to is not None:
            self._permit.remove()
            _LEFT_S.set(0)
            log.warning("witness.lost", to=self.tenure.lost_to.name, epoch=self.tenure.lost_to.epoch)
            self._lost(self.tenure.lost_to)
            return
        until_s = self.tenure.until_s
        if until_s is not None and until_s != self._written_s:
            self._permit.write(self.tenure.me.epoch, until_s)
            self._written_s = until_s
        _LEFT_S.set(max(0.0, (until_s or 0.0) - self._clock_s()))
