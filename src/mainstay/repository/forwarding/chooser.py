"""Find out what is needed to decide about a request, and decide."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from mainstay.cluster.station import Sight
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.repository.forwarding.decisions import AskPrimary, Here, Said, Step, View, decide
from mainstay.repository.forwarding.holdings import Holdings
from mainstay.repository.forwarding.line import Line
from mainstay.repository.forwarding.whereabouts import Primary, PrimaryAway, Whereabouts
from mainstay.repository.remote.strict import BadFields, Fields
from mainstay.repository.threads import Threads

log = get_logger()

_THREADS = 8
_HERE_S_MAX = 1.5
_BLIND_S = 4.0
"""So long nobody looks again into a database of our own that did not answer."""


class Answer(Protocol):
    """What the primary said, as the caller reads it."""

    @property
    def version(self) -> int | None: ...

    @property
    def repository_id(self) -> int | None: ...


Heard = TypeVar("Heard", bound=Answer)


@dataclass(frozen=True, slots=True)
class Choice(Generic[Heard]):
    """What to do, and what became known on the way."""

    step: Step
    sight: Sight
    primary: Primary | None = None
    answer: Heard | None = None


class Chooser(Generic[Heard]):
    """Belongs to one event loop."""

    def __init__(
        self,
        *,
        sight: Callable[[], Sight],
        line: Line,
        whereabouts: Whereabouts,
        holdings: Holdings,
        read: Callable[[Fields], Heard],
    ) -> None:
        """`read` makes of an answer of the primary what the caller needs; raises `BadFields`."""
        self.sight = sight
        self.line = line
        self._whereabouts = whereabouts
        self._holdings = holdings
        self._read = read
        self._threads = Threads(_THREADS)
        self._blind_until_s = float("-inf")

    def close(self) -> None:
        self._threads.close()

    async def choose(self, *, asked: Mapping[str, Any] | None, hops: int, away: str = "") -> Choice[Heard]:
        """What to do with a request; `asked` (of a fetch) is what the primary is asked. `away`: why it is
        known already that it does not answer.
        """
        view = View(sight=self.sight(), is_fetch=asked is not None, hops=hops)
        step = decide(view)
        if not view.sight.is_passive:
            return Choice(step, view.sight)
        if away:
            return _without_primary(view, away)
        try:
            primary = await self._whereabouts.primary(view.sight)
            if asked is None or not isinstance(step, AskPrimary):
                return Choice(step, view.sight, primary)
            answer = self._read(await self.line.look(primary, asked))
        except (PrimaryAway, BadFields) as error:
            return _without_primary(view, str(error))
        seen = replace(view, primary="answers", said=Said(answer.version), here=await self._here(answer))
        return Choice(decide(seen), view.sight, primary, answer)

    async def ask(self, asked: Mapping[str, Any]) -> Fields | None:
        """What the primary says to that; None when it does not answer."""
        try:
            return await self.line.look(await self._whereabouts.primary(self.sight()), asked)
        except PrimaryAway:
            return None

    async def _here(self, answer: Answer) -> Here | None:
        repository_id, version = answer.repository_id, answer.version
        if repository_id is None or version is None:
            return None
        now_s = asyncio.get_running_loop().time()
        if now_s < self._blind_until_s:
            return None
        try:
            async with asyncio.timeout(_HERE_S_MAX):
                return await self._threads.run(self._look_here, repository_id, version)
        except (Unavailable, TimeoutError):  # this site's own database is away: the primary serves
            self._blind_until_s = now_s + _BLIND_S
            return None

    def _look_here(self, repository_id: int, version: int) -> Here | None:
        return self._holdings.of(repository_id, at_least=version)


def _without_primary(view: View, why: str) -> Choice[Any]:
    step = decide(replace(view, primary="away", why_away=why))
    log.info("forwarding.without_primary", step=type(step).__name__, because=why)
    return Choice(step, view.sight)
