"""What the worker does: which event leads to which job, what is done every so often, and where.

Jobs of the installation go through the queue, so that of many nodes one does them. Chores of the node (its
cache, its password file) are done by each node for itself, beside the queue.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mainstay.boot.git import GitTools
from mainstay.boot.layout import Layout
from mainstay.boot.scratch import remove_abandoned
from mainstay.boot.stores import Stores
from mainstay.cache.scrub import Scrub
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.logs import get_logger
from mainstay.jobs import queue
from mainstay.jobs.classes import JobClass, class_of
from mainstay.jobs.schedule import Periodic
from mainstay.jobs.worker import Work
from mainstay.ops import standbys
from mainstay.ops.maintenance.lookout import Lookout
from mainstay.product.accounts.limits import forget_old_failures
from mainstay.repository.maintenance import Leave, MaintenanceSettings, decide
from mainstay.repository.quarantine import remove_forgotten
from mainstay.storage.journal import catch_up
from mainstay.storage.sweep import sweep

log = get_logger()

MAINTAIN = "repository.maintain"
MAINTAIN_ALL = "repository.maintain_all"
CATCH_UP = "journal.catch_up"
SWEEP = "storage.sweep"
FORGET_FAILURES = "accounts.forget_old_failures"

CLASSES: Mapping[str, JobClass] = {
    MAINTAIN: JobClass.UPKEEP,
    MAINTAIN_ALL: JobClass.UPKEEP,
    CATCH_UP: JobClass.ESSENTIAL,
    SWEEP: JobClass.UPKEEP,
    FORGET_FAILURES: JobClass.UPKEEP,
}
"""What every job is; those of upkeep rest during maintenance."""

_ROUNDS_MAX = 5
"""Steps of one repository, or batches of the journal, that one job takes before the next has its turn."""
_JOURNAL_BATCH = 100
_PAGE = 1000


class Chores:
    """The work of one worker process."""

    def __init__(self, stores: Stores, tools: GitTools, *, clock: Clock = SYSTEM) -> None:
        self._stores = stores
        self._tools = tools
        self._clock = clock
        self._settings = MaintenanceSettings(scratch=tools.scratch)
        self._scrub = Scrub(
            Layout(stores.settings.data).cache, ledger=stores.ledger, mender=tools.copies.mender
        )

    @property
    def handlers(self) -> Mapping[str, Work]:
        return {
            MAINTAIN: self._maintain,
            MAINTAIN_ALL: self._maintain_all,
            CATCH_UP: self._catch_up,
            SWEEP: self._sweep,
            FORGET_FAILURES: self._forget_failures,
        }

    @property
    def event_handlers(self) -> Mapping[str, Mapping[str, Work]]:
        return {"push": {"maintain": self._hear_of_push}}

    @property
    def periodics(self) -> Sequence[Periodic]:
        return [
            Periodic(name=CATCH_UP, every_s=5),
            Periodic(name=SWEEP, every_s=900),
            Periodic(name=MAINTAIN_ALL, every_s=3600),
            Periodic(name=FORGET_FAILURES, every_s=24 * 3600),
        ]

    @property
    def of_this_node(self) -> Mapping[str, Callable[[], object]]:
        """By name; each is quick, and done about once a minute, where the site is the primary."""
        return {
            "count_standbys": lambda: standbys.note(self._stores.database),
            "forget_password": self._forget_password,
        }

    @property
    def of_this_machine(self) -> Mapping[str, Callable[[], object]]:
        """The same for what is done on a replica, too: its disk fills like any other."""
        return {
            "evict": self._tools.copies.evict,
            "remove_quarantines": lambda: remove_forgotten(
                Layout(self._stores.settings.data).quarantine, self._clock
            ),
            "scrub": self._scrub.go_on,
            "remove_scratch": lambda: remove_abandoned(Layout(self._stores.settings.data)),
        }

    def _hear_of_push(self, payload: Mapping[str, Any]) -> None:
        self._ask_for_maintenance(payload["repository_id"])

    def _ask_for_maintenance(self, repository_id: int) -> None:
        """One look at the manifest for each push; a job only when there is something to do."""
        _, _, packs = self._stores.ledger.packs(repository_id)
        if isinstance(decide(packs, self._settings), Leave):
            return
        with self._stores.database.write() as tx:
            queue.enqueue(
                tx,
                MAINTAIN,
                {"repository_id": repository_id},
                run_at_ms=self._clock.now_ms(),
                unique_key=f"{MAINTAIN}:{repository_id}",
            )

    def _maintain(self, payload: Mapping[str, Any]) -> None:
        repository_id = payload["repository_id"]
        for _ in range(_ROUNDS_MAX):
            outcome = self._tools.maintenance.maintain(repository_id)
            log.info("worker.maintained", repository_id=repository_id, outcome=outcome)
            _, _, packs = self._stores.ledger.packs(repository_id)
            if isinstance(decide(packs, self._settings), Leave):
                return

    def _maintain_all(self, _payload: Mapping[str, Any]) -> None:
        """Catch what no push asks for, such as thresholds that a new version lowered."""
        after_id = 0
        while page := self._stores.ledger.repositories(after_id=after_id, limit=_PAGE):
            for repository in page:
                self._ask_for_maintenance(repository.id)
            after_id = page[-1].id

    def _catch_up(self, _payload: Mapping[str, Any]) -> None:
        for _ in range(_ROUNDS_MAX):
            done = catch_up(self._stores.ledger, self._stores.objects, limit=_JOURNAL_BATCH)
            if done.changes < _JOURNAL_BATCH:
                return

    def finish(self) -> None:
        """At an orderly end: whoever loses the database next finds all of it in the journal."""
        self._catch_up({})

    def _sweep(self, _payload: Mapping[str, Any]) -> None:
        sweep(self._stores.ledger, self._stores.objects, clock=self._clock)

    def _forget_failures(self, _payload: Mapping[str, Any]) -> None:
        forget_old_failures(self._stores.database, self._clock)

    def _forget_password(self) -> None:
        from mainstay.product.accounts.first_start import (  # noqa: PLC0415 - needs `setup_django` first
            forget_initial_password,
        )

        forget_initial_password(self._stores.settings.data, self._clock.now_ms())


def pauses(lookout: Lookout) -> Callable[[str], bool]:
    """Whether workers leave a job of this name for later."""
    return lambda name: lookout.is_quiet and class_of(name, CLASSES) is JobClass.UPKEEP
