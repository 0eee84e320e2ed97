"""Keeps the objects of a replica complete: follows the primary's feed, and compares everything when it must.

- What is new is pulled by several threads. What is acknowledged is durable here: everything before one
  position, and single stretches behind it.
- A feed that has begun anew, or forgotten where we were, is no loss of anything: all keys are compared once.
- What fails is tried again for as long as the puller runs, and says so in its state.
- Killed at any moment it goes on: what is here is here, a half download is gone on with, and a position is
  written only after everything before it was durable.
- Other bytes under a key of the primary are set aside, never dropped: this site may have been a primary.

A thread reads the feed (`run`), some pull, one tells the primary how far we are, one keeps the state file.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from mainstay.cluster.enduring import bugs_as_outages
from mainstay.cluster.sites.deletions import Deletions
from mainstay.cluster.sites.landing import BeingPulled, Landing
from mainstay.cluster.sites.line import FeedPage, Listed
from mainstay.cluster.sites.positions import Acknowledged
from mainstay.cluster.sites.progress import Progress
from mainstay.cluster.sites.puller_state import (
    Phase,
    PullerState,
    behind,
    read_state,
    why_paused,
    write_state,
)
from mainstay.cluster.sites.tasks import Task, Tasks
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Conflict, MainstayError, NotAllowed
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, gauge
from mainstay.foundation.private_files import make_private_directory
from mainstay.storage.feed.log import FeedGone
from mainstay.storage.objects import NoSuchObject, ObjectStore

log = get_logger()

THREADS: Final = 4
BUNDLED_MAX: Final = 12
BUNDLED_BYTES_MAX: Final = 64 * 1024
"""So many objects, so small, come in one answer; few, so that all threads have some to store."""
WINDOW_MAX: Final = 2000
"""Objects known to be missing, and not here yet; the rest of the feed waits."""
KEEP_DELETED_S: Final = 3600
_POLL_S: Final = 5
_TELL_S: Final = 1.0
"""How often the state is written, and how long the primary hears nothing at most while something moves."""
_HEARD_EVERY_S: Final = 5.0
_REST_S: Final = 1.0
_REST_S_MAX: Final = 10.0
_STEP_S: Final = 0.5
_GATHER_S: Final = 0.1
"""How long acknowledgements are gathered for a primary that waits for none."""
_STOP_S: Final = 10.0

_PULLED = counter("replica_objects_pulled_total", "Objects that came from the primary.")
_PULLED_BYTES = counter("replica_object_bytes_pulled_total", "Bytes of objects that came from the primary.")
_FAILED = counter("replica_object_failures_total", "Attempts to pull an object that failed.")
_ITEMS = gauge("replica_objects_behind", "Objects that are not here yet.", ["kind"], across="livemostrecent")
_BYTES = gauge(
    "replica_object_bytes_behind",
    "Bytes of objects that are not here yet.",
    ["kind"],
    across="livemostrecent",
)
_SECONDS = gauge(
    "replica_objects_behind_seconds",
    "Since the oldest object was stored that is not here yet.",
    ["kind"],
    across="livemostrecent",
)


class Upstream(Protocol):
    """The line to the primary, see `cluster.sites.line.Line`."""

    def facts(self) -> Mapping[str, Any]: ...

    def listing(self, prefix: str) -> Iterator[Listed]: ...

    def feed(self, identity: str, after: int, *, wait_s: int) -> FeedPage: ...

    def download(self, key: str, target: Path) -> None:
        """Into that very file, which is locked: another one in its place would not be."""
        ...

    def bundle(self, keys: Sequence[str]) -> Mapping[str, bytes | None]: ...

    def acknowledge(self, found: Acknowledged) -> None: ...


def everything(_key: str) -> bool:
    """What a full replica wants."""
    return True


def unheard(_key: str) -> None:
    """Nobody wants to hear what has come."""


class Puller:
    """One site's. `store` must be the bare one: through one that pulls by itself it would ask in circles."""

    def __init__(
        self,
        line: Upstream,
        store: ObjectStore,
        directory: Path,
        *,
        clock: Clock,
        wants: Callable[[str], bool] = everything,
        landed: Callable[[str], None] = unheard,
        keep_deleted_s: int = KEEP_DELETED_S,
        threads: int = THREADS,
        window_max: int = WINDOW_MAX,
    ) -> None:
        """`directory` is for the state, half downloads, and what is set aside; on the disk of the store.

        `wants` says which keys are to be here; a cache leaves the others to those who ask for them. `landed`
        hears of each object that has come, by the threads that pull: it must not wait.
        """
        self._line = line
        self._store = store
        self._directory = directory
        self._clock = clock
        self._wants = wants
        self._landed = landed
        self._threads_wanted = threads
        self._window_max = window_max
        make_private_directory(directory)
        kept = read_state(directory) or PullerState()
        self._deletions = Deletions(directory / "deleted", keep_s=keep_deleted_s)
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._tasks = Tasks(monotonic_s=clock.monotonic_s)
        self._progress = Progress(kept.position)
        self._state = replace(kept, phase="starting", because="", pulled=0, received_bytes=0)
        self._state = replace(self._state, behind=behind([], now_ms=0))
        self._feed = kept.identity
        """What is read now; the state has it when nothing before `position` is missing any more."""
        self._compared_to = -1
        """The end of the feed when a comparison began of which objects are left; -1: none are."""
        self._read_position = kept.position
        self._ahead_ms = 0
        self._said: Acknowledged | None = None
        self._hurries = False
        self._landing = Landing(store, directory, set_aside=kept.set_aside)

    @property
    def state(self) -> PullerState:
        with self._lock:
            return self._state

    def run(self, stop: threading.Event) -> None:
        """Until told to stop, whatever happens. Closing the line as well makes it stop at once."""
        self._landing.prepare()
        duties = [self._tell_until, self._keep_until, *[self._pull_until] * self._threads_wanted]
        threads = [
            threading.Thread(target=duty, args=(stop,), name=duty.__name__.strip("_"), daemon=True)
            for duty in duties
        ]
        for thread in threads:
            thread.start()
        try:
            self._read_until(stop)
        finally:
            stop.set()
            self._told.set()
            for thread in threads:
                thread.join(_STOP_S)
            self._enter("stopped")
            self._write_state()

    # The feed
    def _read_until(self, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                if (because := why_paused(self._directory)) is not None:
                    self._rest(stop, "paused", because, _REST_S)
                    continue
                with bugs_as_outages("sites.puller_broke"):
                    self._read(stop)
                self._tasks.pause(False)
                failures = 0
            except FeedGone as gone:
                log.info("sites.comparison_needed", because=str(gone))
                self._start_over()
            except (Conflict, NotAllowed) as refused:
                self._rest(stop, "paused", str(refused), _REST_S_MAX)
            except MainstayError as away:
                failures += 1
                self._rest(stop, "away", str(away), min(_REST_S * 2**failures, _REST_S_MAX))

    def _read(self, stop: threading.Event) -> None:
        """One step: the next page of the feed, or everything when there is no position."""
        if not self._feed:
            self._compare(stop)
            return
        if not self._tasks.wait_below(self._window_max, _STEP_S):
            return
        page = self._line.feed(self._feed, self._read_position, wait_s=_POLL_S)
        self._note_heard(now_ms=page.now_ms, feed_end=page.position)
        self._hurries = page.hurries
        self._enter("following")
        for entry in page.entries:
            start, end = self._read_position, self._read_position + len(entry.line)
            task = Task(entry.key, entry.size_bytes, entry.at_ms, start, end, self._feed)
            self._take_up(task, is_deleted=entry.is_deleted)
            self._read_position = end

    def _take_up(self, task: Task, *, is_deleted: bool) -> None:
        if is_deleted:
            self._deletions.add(task.key, task.at_ms - self._ahead_ms)
        if is_deleted or not self._wants(task.key):
            self._mark_done(task)
        else:
            self._tasks.put(task)

    # Comparing
    def _compare(self, stop: threading.Event) -> None:
        """Look for every object of the primary here. What is stored there meanwhile is in its feed.

        Then the feed is followed, though some may still be missing; the position counts when none is.
        """
        facts = self._line.facts()
        identity, end = _feed_in(facts)
        self._note_heard(now_ms=int(facts["now_ms"]), feed_end=end)
        self._enter("comparing")
        with self._lock:
            self._state = replace(self._state, compared=0, missing=0)
        missing = self._directory / "missing"
        with missing.open("w") as out:  # first to a file: nobody holds a list open while objects come
            for listed in self._line.listing(""):
                self._look_for(listed, out)
                if stop.is_set():
                    return
        self._tasks.pause(False)
        with missing.open() as lines:
            for line in lines:
                size, _, key = line.rstrip("\n").partition(" ")
                if not self._put_when_there_is_room(Task(key, int(size), 0, feed=identity), stop):
                    return
        log.info("sites.compared", compared=self._state.compared, missing=self._state.missing)
        with self._lock:
            self._progress = Progress(0)
            self._feed, self._read_position, self._compared_to = identity, end, end
        self._enter("following")
        self._settle_comparison()

    def _look_for(self, listed: Listed, missing: TextIO) -> None:
        if not self._wants(listed.key):
            return
        is_missing = self._store.size_bytes(listed.key) != listed.size_bytes
        if is_missing:
            missing.write(f"{listed.size_bytes} {listed.key}\n")
        with self._lock:
            self._state = replace(
                self._state,
                compared=self._state.compared + 1,
                missing=self._state.missing + int(is_missing),
            )

    def _put_when_there_is_room(self, task: Task, stop: threading.Event) -> bool:
        """False: it is to stop, or to rest."""
        while not self._tasks.wait_below(self._window_max, _STEP_S):
            if stop.is_set() or why_paused(self._directory) is not None:
                return False
        self._tasks.put(task)
        return not stop.is_set()

    def _settle_comparison(self) -> None:
        """When all that it found is here: from now on there is a position."""
        if self._compared_to < 0 or self._tasks.any_compared():
            return
        with self._lock:
            if self._compared_to < 0:
                return  # somebody else was quicker
            self._progress.done(0, self._compared_to)
            self._compared_to = -1
            self._state = replace(self._state, identity=self._feed, position=self._progress.position)
        self._write_state()
        self._told.set()

    def _start_over(self) -> None:
        self._tasks.clear()
        with self._lock:
            self._progress = Progress(0)
            self._feed, self._compared_to = "", -1
            self._state = replace(self._state, identity="", position=0)
        self._write_state()

    # Pulling
    def _pull_until(self, stop: threading.Event) -> None:
        while not stop.is_set():
            task = self._tasks.take(_STEP_S)
            if task is None:
                continue
            if not _is_small(task):
                self._pull_one(task)
                continue
            self._pull_small([task, *self._tasks.take_more(BUNDLED_MAX - 1, fits=_is_small)])

    def _pull_small(self, tasks: Sequence[Task]) -> None:
        """Those that do not come together come one by one."""
        missing = []
        for task in tasks:
            if self._store.size_bytes(task.key) == task.size_bytes:
                self._finish(task)
            else:
                missing.append(task)
        found = self._bundle([task.key for task in missing]) if len(missing) > 1 else {}
        for task in missing:
            self._pull_one(task, found.get(task.key))

    def _bundle(self, keys: Sequence[str]) -> Mapping[str, bytes | None]:
        try:
            with bugs_as_outages("sites.puller_broke"):
                return self._line.bundle(keys)
        except MainstayError as failed:
            log.debug("sites.bundle_failed", because=str(failed))
            return {}

    def _pull_one(self, task: Task, content: bytes | None = None) -> None:
        try:
            with bugs_as_outages("sites.puller_broke"):
                self._pull(task, content)
        except BeingPulled:
            self._tasks.again(task)
        except (MainstayError, OSError) as failed:
            _FAILED.inc()
            log.warning("sites.pull_failed", key=task.key, because=str(failed), failures=task.failures)
            with self._lock:
                self._state = replace(self._state, because=f"{task.key}: {failed}")
            self._tasks.again(task)
        else:
            self._finish(task)

    def _finish(self, task: Task) -> None:
        self._mark_done(task)
        self._tasks.done(task)
        self._settle_comparison()

    def _pull(self, task: Task, content: bytes | None) -> None:
        """Have the object here, durably. Nothing to do when it is, or when it is gone there by now."""
        if self._store.size_bytes(task.key) == task.size_bytes:
            return
        with self._landing.place(task.key) as partial:
            if self._store.size_bytes(task.key) == task.size_bytes:  # it came while we came here
                partial.unlink(missing_ok=True)
                return
            try:
                if content is None:
                    self._line.download(task.key, partial)
                else:
                    partial.write_bytes(content)
            except NoSuchObject:
                partial.unlink(missing_ok=True)
                return
            self._count(self._landing.store(task.key, partial))
            self._landed(task.key)

    def _count(self, size_bytes: int) -> None:
        _PULLED.inc()
        _PULLED_BYTES.inc(size_bytes)
        with self._lock:
            self._state = replace(
                self._state,
                pulled=self._state.pulled + 1,
                received_bytes=self._state.received_bytes + size_bytes,
                set_aside=tuple(self._landing.set_aside),
                because="" if self._state.phase in ("following", "comparing") else self._state.because,
            )

    def _mark_done(self, task: Task) -> None:
        with self._lock:
            if task.start < 0 or task.feed != self._feed:
                return
            self._progress.done(task.start, task.end)
            if self._state.identity:
                self._state = replace(self._state, position=self._progress.position)
        self._told.set()

    # Telling
    def _tell_until(self, stop: threading.Event) -> None:
        """The primary: at once when something is done, and now and then when nothing is."""
        said_s = float("-inf")
        while not stop.is_set():
            if self._told.wait(_TELL_S) and not self._hurries:
                stop.wait(_GATHER_S)
            self._told.clear()
            now_s, ours = self._clock.monotonic_s(), self._acknowledgement()
            if ours != self._said or now_s - said_s >= _HEARD_EVERY_S:
                self._said, said_s = (ours if self._say(ours) else None), now_s

    def _keep_until(self, stop: threading.Event) -> None:
        """The state file, and all that is done once a second."""
        while not stop.wait(_TELL_S):
            try:
                with bugs_as_outages("sites.puller_broke"):
                    self._look_after()
            except (MainstayError, OSError) as failed:
                log.warning("sites.state_not_kept", because=str(failed))

    def _say(self, ours: Acknowledged) -> bool:
        try:
            self._line.acknowledge(ours)
        except MainstayError as error:
            log.debug("sites.not_acknowledged", because=str(error))
            return False
        return True

    def _acknowledgement(self) -> Acknowledged:
        """Positions are of nothing until a comparison has listed all; then what came since counts."""
        with self._lock:
            position = self._progress.position if self._feed else 0
            ahead = self._progress.ahead if self._feed else ()
            return Acknowledged(self._feed, position, ahead, received_bytes=self._received_bytes())

    def _received_bytes(self) -> int:
        """What has come, half downloads included."""
        return self._state.received_bytes + self._landing.half_bytes

    def _look_after(self) -> None:
        """Once a second: pause, deletions, numbers, the state file."""
        if why_paused(self._directory) is not None:
            self._tasks.pause(True)
        self._deletions.carry_out(self._store, now_ms=self._clock.now_ms())
        left = list(self._tasks.left)
        with self._lock:
            now_ms = self._clock.now_ms() + self._ahead_ms
            self._state = replace(self._state, behind=behind(left, now_ms=now_ms), at_ms=self._clock.now_ms())
        for kind, each in self._state.behind.items():
            _ITEMS.labels(kind).set(each.items)
            _BYTES.labels(kind).set(each.bytes)
            _SECONDS.labels(kind).set(each.seconds)
        self._write_state()

    def _note_heard(self, *, now_ms: int, feed_end: int) -> None:
        ours_ms = self._clock.now_ms()
        self._ahead_ms = now_ms - ours_ms
        with self._lock:
            self._state = replace(self._state, heard_ms=ours_ms, feed_end=feed_end)

    def _enter(self, phase: Phase, because: str = "") -> None:
        with self._lock:
            if self._state.phase == phase and not because:
                return
            if self._state.phase != phase:
                log.info("sites.puller_entered", phase=phase, because=because)
                self._said = None  # who was away may have forgotten it
            self._state = replace(self._state, phase=phase, because=because)

    def _rest(self, stop: threading.Event, phase: Phase, because: str, rest_s: float) -> None:
        self._enter(phase, because)
        if phase == "paused":
            self._tasks.pause(True)
        stop.wait(rest_s)

    def _write_state(self) -> None:
        with self._lock:
            write_state(self._directory, self._state)


def _feed_in(facts: Mapping[str, Any]) -> tuple[str, int]:
    """Identity and end of the feed there. Raises `NoFeedThere`."""
    feed = facts.get("feed") or {}
    identity, end = str(feed.get("identity", "")), int(feed.get("end", 0))
    if not identity:
        raise NoFeedThere("the other site keeps no feed of its objects: its setting `sites` is not set")
    return identity, end


class NoFeedThere(Conflict):
    """It cannot be followed."""


def _is_small(task: Task) -> bool:
    return task.size_bytes <= BUNDLED_BYTES_MAX and not task.failures
