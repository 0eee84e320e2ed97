"""The worker: empties the outbox and does the jobs, in bounded threads.

Events come first and have threads of their own, so that a long job never holds up the news of a push. An
event handler is short (well within the lease) and idempotent; what takes longer is a job that it asks for.
A handler that fails does not hold up the others: its part of the event becomes a job named
`event:TOPIC:HANDLER`, with a job's retries, and the event is finished.

A topic that nobody here knows is left in the outbox: a node of a newer version may know it.

When the database is away the worker waits and goes on; when it is told to stop, it finishes what it has
begun and gives back what it has not.
"""

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
    wait,
)
from contextlib import suppress
from functools import partial
from typing import Any

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Conflict, OutcomeUnknown, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import get_logger
from mainstay.jobs import queue, schedule
from mainstay.jobs.queue import Job
from mainstay.jobs.schedule import Periodic
from mainstay.storage.database import Database
from mainstay.storage.ledger import Event, Ledger

Work = Callable[[Mapping[str, Any]], None]
"""What does a job or hears of an event: it is given the payload."""

_EVENTS_IN_FLIGHT_MAX = 100
_DATABASE_TROUBLE = (Unavailable, Conflict, OutcomeUnknown)

log = get_logger()


def job_name_of(topic: str, handler: str) -> str:
    """The job that does again what an event handler failed to do."""
    return f"event:{topic}:{handler}"


class Worker:
    """One per worker process. `run_once` in tests, `run` in life."""

    def __init__(
        self,
        *,
        database: Database,
        ledger: Ledger,
        handlers: Mapping[str, Work],
        event_handlers: Mapping[str, Mapping[str, Work]],
        clock: Clock,
        periodics: Sequence[Periodic] = (),
        threads_max: int = 4,
        lease_s: int = 60,
        poll_s: float = 0.5,
        after_each: Callable[[], None] = lambda: None,
        is_paused: Callable[[str], bool] = lambda _name: False,
        rests: Callable[[], bool] = lambda: False,
    ) -> None:
        """`event_handlers`: topic, then name of the handler; a topic with none is known and ignored.

        A job for whose name `is_paused` says so stays in the queue; one that runs is not disturbed.
        While it `rests`, nothing is taken or written: the queue is another site's.

        `after_each` runs in the thread of each task when it ends, such as to let go of connections.
        """
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{new_ulid()[-6:]}"
        self._database = database
        self._ledger = ledger
        self._event_handlers = event_handlers
        self._handlers = {**handlers, **_retries_of(event_handlers)}
        self._clock = clock
        self._periodics = periodics
        self._threads_max = threads_max
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._after_each = after_each
        self._is_paused = is_paused
        self._rests = rests
        self._is_scheduled = False
        self._is_resting = False
        self._event_threads = ThreadPoolExecutor(threads_max, thread_name_prefix="event")
        self._job_threads = ThreadPoolExecutor(threads_max, thread_name_prefix="job")
        self._events: dict[Future[bool], Event] = {}
        self._jobs: dict[Future[None], Job] = {}
        self._heartbeat_due_s = 0.0
        self._woken: Future[None] = Future()

    def wake(self) -> None:
        """Look at once instead of at the next poll. From any thread; twice is the same as once."""
        with suppress(InvalidStateError):
            self._woken.set_result(None)

    def run_once(self) -> int:
        """Take what is due now, do it, wait until it is done; return how much it was."""
        self._ensure_schedule()
        started = self._start_due()
        while self._events or self._jobs:
            self._wait(FIRST_COMPLETED)
            self._settle()
        return started

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then finish what has begun."""
        log.info("worker.started", owner=self.owner, threads_max=self._threads_max)
        while not stop.is_set():
            if self._is_at_rest() or not self._patiently(self._turn):
                self._pause()
        self._give_back_unbegun()
        while self._wait(ALL_COMPLETED):
            self._patiently(self._keep_leases)
        if not self._is_at_rest():
            self._patiently(self._settle)
        self.close()
        log.info("worker.stopped", owner=self.owner)

    def close(self) -> None:
        """End the threads; waits for what runs in them."""
        self._event_threads.shutdown()
        self._job_threads.shutdown()

    def _is_at_rest(self) -> bool:
        """Whether to do nothing now. What ran when the rest began is somebody else's, once its lease ends."""
        rests = self._rests()
        if rests != self._is_resting:
            self._is_resting = rests
            log.info("worker.rest_began" if rests else "worker.rest_ended", owner=self.owner)
        if rests:
            self._is_scheduled = False
            self._forget_done()
        return rests

    def _forget_done(self) -> None:
        for event in [future for future in self._events if future.done()]:
            del self._events[event]
        for job in [future for future in self._jobs if future.done()]:
            del self._jobs[job]

    def _turn(self) -> int:
        if not self._is_scheduled:
            self._ensure_schedule()
            self._is_scheduled = True
        self._settle()
        return self._start_due()

    def _patiently(self, step: Callable[[], int | None]) -> int:
        """Do `step`; when the database is away say so, and let the next turn try again."""
        try:
            return step() or 0
        except _DATABASE_TROUBLE as error:
            log.warning("worker.waits_for_database", because=str(error))
            return 0

    def _pause(self) -> None:
        """Until the next poll, the end of something that runs, or a call of `wake`."""
        wait([*self._running(), self._woken], timeout=self._poll_s, return_when=FIRST_COMPLETED)
        if self._woken.done():
            # A call between these two lines is not lost: the look that it asks for comes right now.
            self._woken = Future()

    def _wait(self, until: str) -> bool:
        """Wait, but no longer than until the next poll, for what still runs; False when nothing does."""
        running = self._running()
        if running:
            wait(running, timeout=self._poll_s, return_when=until)
        return bool(running)

    def _running(self) -> list[Future[Any]]:
        tasks: list[Future[Any]] = [*self._events, *self._jobs]
        return [task for task in tasks if not task.done()]

    def _ensure_schedule(self) -> None:
        if self._periodics:
            with self._database.write() as tx:
                schedule.ensure(tx, self._periodics, now_ms=self._clock.now_ms())

    # Taking
    def _start_due(self) -> int:
        return self._start_events() + self._start_jobs()

    def _start_events(self) -> int:
        free = _EVENTS_IN_FLIGHT_MAX - len(self._events)
        if free < 1:
            return 0
        events = self._ledger.take_events(owner=self.owner, lease_s=self._lease_s, limit=free)
        known = [event for event in events if event.topic in self._event_handlers]
        for event in known:
            self._events[self._event_threads.submit(self._deliver, event)] = event
        if len(known) < len(events):
            log.warning(
                "worker.topics_unknown", topics=sorted({e.topic for e in events} - {e.topic for e in known})
            )
        return len(known)

    def _start_jobs(self) -> int:
        free = self._threads_max - len(self._jobs)
        if free < 1:
            return 0
        with self._database.write() as tx:
            jobs = queue.take(
                tx,
                names=[name for name in self._handlers if not self._is_paused(name)],
                owner=self.owner,
                now_ms=self._clock.now_ms(),
                lease_s=self._lease_s,
                limit=free,
            )
        for job in jobs:
            self._jobs[self._job_threads.submit(self._do, job)] = job
        return len(jobs)

    # Doing, in the threads
    def _deliver(self, event: Event) -> bool:
        """Tell every handler; True when the event needs no further delivery."""
        try:
            failed = [
                (name, because)
                for name, work in self._event_handlers[event.topic].items()
                if (because := self._attempt(work, event.payload, event_id=event.id, name=name)) is not None
            ]
            if failed:
                self._retry_later(event, [name for name, _ in failed])
        except _DATABASE_TROUBLE as error:
            log.warning("worker.event_left", event_id=event.id, because=str(error))
            return False
        finally:
            self._after_each()
        return True

    def _retry_later(self, event: Event, names: Sequence[str]) -> None:
        run_at_ms = self._clock.now_ms() + queue.BACKOFF_FIRST_MS
        with self._database.write() as tx:
            for name in names:
                queue.enqueue(
                    tx,
                    job_name_of(event.topic, name),
                    event.payload,
                    run_at_ms=run_at_ms,
                    unique_key=f"event:{event.id}:{name}",
                )

    def _do(self, job: Job) -> None:
        try:
            because = self._attempt(self._handlers[job.name], job.payload, job_id=job.id, name=job.name)
            self._record(job, because)
        except _DATABASE_TROUBLE as error:
            # The lease runs out and the job is done again.
            log.warning("worker.job_left", job_id=job.id, name=job.name, because=str(error))
        finally:
            self._after_each()

    def _record(self, job: Job, because: str | None) -> None:
        now_ms = self._clock.now_ms()
        with self._database.write() as tx:
            if because is None:
                queue.finish(tx, job, owner=self.owner, now_ms=now_ms)
                return
            is_dead = queue.fail(tx, job, owner=self.owner, error=because, now_ms=now_ms)
        if is_dead:
            log.error("worker.job_died", job_id=job.id, name=job.name, because=because)

    def _attempt(self, work: Work, payload: Mapping[str, Any], **facts: object) -> str | None:
        """Do the work; return why it failed, or None. This is the last door: any error ends here."""
        try:
            work(payload)
        except Exception as error:
            log.warning("worker.task_failed", **facts, because=str(error), exc_info=True)
            return f"{type(error).__name__}: {error}"
        return None

    # Settling, in the thread of `run`
    def _settle(self) -> None:
        """Finish the events that are delivered, forget the jobs that are done, prolong the others."""
        delivered = [future for future in self._events if future.done()]
        finished = [self._events[future].id for future in delivered if future.result()]
        if finished:
            self._ledger.finish_events(finished)
        for future in delivered:
            del self._events[future]
        for done in [future for future in self._jobs if future.done()]:
            del self._jobs[done]
            done.result()
        self._keep_leases()

    def _keep_leases(self) -> None:
        if not self._jobs or self._clock.monotonic_s() < self._heartbeat_due_s:
            return
        with self._database.write() as tx:
            queue.heartbeat(
                tx,
                [job.id for job in self._jobs.values()],
                owner=self.owner,
                now_ms=self._clock.now_ms(),
                lease_s=self._lease_s,
            )
        self._heartbeat_due_s = self._clock.monotonic_s() + self._lease_s / 3

    def _give_back_unbegun(self) -> None:
        """What still waits for a thread goes back. Events wait for their lease, which costs nothing."""
        for future in [future for future in self._events if future.cancel()]:
            del self._events[future]
        unbegun = [future for future in self._jobs if future.cancel()]
        ids = [self._jobs.pop(future).id for future in unbegun]
        if ids:
            self._patiently(partial(self._release, ids))

    def _release(self, ids: Sequence[int]) -> None:
        with self._database.write() as tx:
            queue.release(tx, ids, owner=self.owner, now_ms=self._clock.now_ms())


def _retries_of(event_handlers: Mapping[str, Mapping[str, Work]]) -> dict[str, Work]:
    return {
        job_name_of(topic, name): work
        for topic, named in event_handlers.items()
        for name, work in named.items()
    }
