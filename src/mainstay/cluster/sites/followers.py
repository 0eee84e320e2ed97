"""A push waits for the sites that follow synchronously: until each says that it has the objects of this push.

What they say is in a file of the node (`positions`), which is watched; of the threads that wait one watches
and wakes the others. A push waits only for its own objects, not for a larger one that began before it. The
limit is on silence: a site from which something comes, however slowly, is waited for; one that says nothing
for `SILENCE_S_MAX` is not, and then nothing is committed.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from mainstay.cluster.sites.positions import Acknowledged, Positions
from mainstay.foundation.clock import Clock
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, histogram
from mainstay.storage.feed.log import Feed
from mainstay.storage.feed.watch import Watch
from mainstay.storage.followers import FollowersBehind

log = get_logger()

SILENCE_S_MAX: Final = 20.0
TOTAL_S_MAX: Final = 1800.0
_LOOK_S: Final = 0.25

_WAITS = counter("sites_waits_total", "Pushes that waited for other sites.", ["outcome"])
_SECONDS = histogram("sites_wait_seconds", "How long a push waited for other sites to have its objects.")


class Stretches(Protocol):
    """Where in the feed an object was announced, see `storage.feed.store.FedStore`."""

    def stretch_of(self, key: str) -> tuple[int, int] | None: ...


@dataclass(slots=True)
class _Patience:
    """What the sites that are waited for last said, and since when they have said nothing else."""

    began_s: float
    moved_s: float
    seen: dict[str, object] = field(default_factory=dict)

    def look(self, lagging: Mapping[str, object], *, now_s: float) -> None:
        if any(self.seen.get(site) != said for site, said in lagging.items()):
            self.seen, self.moved_s = dict(lagging), now_s


class SiteFollowers:
    """For all threads of one process."""

    def __init__(
        self,
        stretches: Stretches,
        feed: Feed,
        positions: Positions,
        *,
        waited_for: Callable[[], Collection[str]],
        name_of: Callable[[str], str],
        clock: Clock,
        silence_s_max: float = SILENCE_S_MAX,
    ) -> None:
        """`waited_for` gives the ids of the sites that must have everything; asked again and again."""
        self._stretches = stretches
        self._feed = feed
        self._positions = positions
        self._waited_for = waited_for
        self._name_of = name_of
        self._clock = clock
        self._silence_s_max = silence_s_max
        self._changed = threading.Condition()
        self._generation = 0
        self._is_watched = False
        self._watch: Watch | None = None

    def wait(self, keys: Sequence[str]) -> None:
        if not self._waited_for():
            return
        wanted, identity = [self._stretch_of(key) for key in keys], self._feed.identity
        began_s = self._clock.monotonic_s()
        patience = _Patience(began_s, began_s)
        while True:
            generation = self._generation
            lagging = self._lagging(identity, wanted)
            now_s = self._clock.monotonic_s()
            if not lagging:
                _WAITS.labels("confirmed").inc()
                _SECONDS.observe(now_s - began_s)
                return
            patience.look({site: _movement(said) for site, said in lagging.items()}, now_s=now_s)
            self._refuse_late(patience, lagging, now_s=now_s)
            self._wait_for_news(generation)

    def close(self) -> None:
        with self._changed:
            watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def _stretch_of(self, key: str) -> tuple[int, int]:
        """What another process has announced is before the end of the feed."""
        return self._stretches.stretch_of(key) or (0, self._feed.end)

    def _lagging(self, identity: str, wanted: Sequence[tuple[int, int]]) -> Mapping[str, Acknowledged | None]:
        known = self._positions.all()
        pairs = [(site, known.get(site)) for site in self._waited_for()]
        return {
            site: said
            for site, said in pairs
            if said is None or not all(said.has(identity, *stretch) for stretch in wanted)
        }

    def _refuse_late(self, patience: _Patience, sites: Collection[str], *, now_s: float) -> None:
        silent_s, total_s = now_s - patience.moved_s, now_s - patience.began_s
        if silent_s < self._silence_s_max and total_s < TOTAL_S_MAX:
            return
        _WAITS.labels("refused").inc()
        names = sorted(map(self._name_of, sites))
        log.warning("sites.not_confirmed", sites=names, waited_s=round(total_s, 1))
        raise FollowersBehind(
            f"the replica {' and '.join(map(repr, names))} must have this push, too, and has not confirmed it"
            f" within {total_s:.0f} s: nothing was changed; push again, or ask an administrator to look at"
            " `mainstay replica status`"
        )

    def _wait_for_news(self, generation: int) -> None:
        """Until somebody has said something since `generation`, or for a moment."""
        with self._changed:
            if self._generation != generation:
                return
            if self._is_watched:
                self._changed.wait(_LOOK_S)
                return
            self._is_watched = True
            watch = self._watch = self._watch or Watch(self._positions.directory)
        try:
            watch.wait(_LOOK_S)
        finally:
            with self._changed:
                self._is_watched = False
                self._generation += 1
                self._changed.notify_all()


def _movement(said: Acknowledged | None) -> object:
    return said and (said.identity, said.position, said.ahead, said.received_bytes)
