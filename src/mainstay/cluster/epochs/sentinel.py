"""Learn of promotions elsewhere, every second, and of one's own role.

The first data process of a site runs it. It asks the site's own database, the peers whose addresses it knows,
the object store and the witness, each in a thread of its own, so that one that does not answer keeps nobody
else from being heard. Whatever they say can only raise the highest epoch seen, so it does not matter in which
order they answer, or how late.

Before a node takes writes it calls `ask_once`: an old primary that comes back finds out that way that it is
one, if any of them can be reached.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final, Protocol

from mainstay.cluster.epochs.markers import following, highest_marker
from mainstay.cluster.epochs.own import Look
from mainstay.cluster.epochs.site import SiteFile
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, gauge
from mainstay.storage.database.fence import Claim, Standing
from mainstay.storage.objects import ObjectStore

log = get_logger()

EVERY_S: Final = 1.0
FIRST_LOOK_S: Final = 3.0
"""How long a start waits for the others' answers."""
SOURCES_MAX: Final = 64
_LISTED_EVERY: Final = 60
"""Looks at the object store between two listings, which find markers behind a gap and may cost money."""

_HIGHEST = gauge("sites_epoch_highest", "The highest epoch seen anywhere.")
_OWN = gauge("sites_epoch_own", "The epoch of the site's own database.")
_ANSWERS = counter("sites_epoch_answers_total", "Answers about epochs.", ["source", "outcome"])


class Peer(Protocol):
    """Another site."""

    @property
    def name(self) -> str: ...

    def epoch(self) -> Claim | None:
        """The highest claim that the site knows; None: it knows none. Within a second or two.

        Raises `MainstayError` when it does not answer.
        """
        ...


Source = Callable[[], Claim | None]
"""Raises `MainstayError` when it does not answer."""


class MarkerSource:
    """The object store, as cheaply as possible."""

    def __init__(self, objects: ObjectStore, site: SiteFile) -> None:
        self._objects = objects
        self._site = site
        self._looks = 0

    def __call__(self) -> Claim | None:
        is_listing = self._looks % _LISTED_EVERY == 0
        standing = self._site.read()
        known = standing.highest.epoch if standing else 0
        found = highest_marker(self._objects) if is_listing else following(self._objects, known)
        self._looks += 1
        return found


class Sentinel:
    """Raises the highest epoch in `site`. `peers` is asked for each time, because sites come and go."""

    def __init__(
        self,
        site: SiteFile,
        *,
        own: Look,
        peers: Callable[[], Sequence[Peer]],
        sources: Mapping[str, Source],
        changed: Callable[[Standing], None] = lambda _: None,
        every_s: float = EVERY_S,
    ) -> None:
        """`sources`: what is asked beside the peers, such as the object store and the witness.

        `changed` hears of each new state of `site.json` that this process brought about.
        """
        self._site = site
        self._own = own
        self._peers = peers
        self._sources = sources
        self._changed = changed
        self._every_s = every_s
        self._threads = ThreadPoolExecutor(SOURCES_MAX, thread_name_prefix="sentinel")
        self._asking: dict[str, Future[None]] = {}
        self._learning = threading.Lock()
        self._known: Standing | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="sentinel", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Questions under way end by their own limits; nobody waits for them."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(self._every_s + FIRST_LOOK_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._own.close()

    def ask_once(self, *, limit_s: float = FIRST_LOOK_S) -> Standing | None:
        """Ask everybody; what they said within the limit counts from now on."""
        if self._site.read() is None:
            return None
        wait(self._ask(), timeout=limit_s)
        return self._site.read()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            try:
                if self._site.read() is not None:
                    self._ask()
            except MainstayError as error:
                log.warning("epochs.look_failed", because=str(error))

    def _ask(self) -> list[Future[None]]:
        """Ask everybody who has answered the last question."""
        questions: dict[str, Source] = {"own": self._look_at_own, **self._sources}
        questions |= {f"peer {peer.name}": peer.epoch for peer in self._peers()}
        for name in list(self._asking):
            if name not in questions and self._asking[name].done():
                del self._asking[name]
        for name, source in list(questions.items())[:SOURCES_MAX]:
            running = self._asking.get(name)
            if running is None or running.done():
                self._asking[name] = self._threads.submit(self._hear, name, source)
        return list(self._asking.values())

    def _look_at_own(self) -> None:
        """A source like the others, so that a database that hangs keeps nobody from being heard."""
        found = self._own()
        if found is not None:
            self._note(lambda: self._site.record(found.reign.claim, is_replica=found.in_recovery))

    def _hear(self, name: str, source: Source) -> None:
        kind = name.partition(" ")[0]
        try:
            claim = source()
            if claim is not None:
                self._note(lambda: self._site.learn(claim))
        except MainstayError as error:
            _ANSWERS.labels(kind, "failed").inc()
            log.debug("epochs.source_silent", source=name, because=str(error))
        else:
            _ANSWERS.labels(kind, "heard").inc()

    def _note(self, change: Callable[[], Standing]) -> None:
        with self._learning:
            standing = change()
            _HIGHEST.set(standing.highest.epoch)
            _OWN.set(standing.own.epoch)
            if standing != self._known:
                self._known = standing
                self._changed(standing)
