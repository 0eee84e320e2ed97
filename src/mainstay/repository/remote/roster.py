"""The git nodes as this process sees them: who lives, who failed a moment ago, how much each does for us."""

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mainstay.cluster.placement import GitNode, order_of_asking
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Unavailable
from mainstay.repository.remote.kept import Kept

_NODES_FRESH_S = 2.0
_LABELS_FRESH_S = 10.0
_LABELS_MAX = 10_000
_AVOIDED_S = 5.0
"""How long a node is asked last after it failed. Then somebody tries it again."""


class NoGitNode(Unavailable):
    """Nobody serves Git now."""


class Roster:
    """Finds whom to ask. `nodes` and `label_of` block; their answers are kept for seconds."""

    def __init__(
        self, *, nodes: Callable[[], Sequence[GitNode]], label_of: Callable[[int], str], clock: Clock
    ) -> None:
        self._nodes = Kept(nodes, fresh_s=_NODES_FRESH_S, clock=clock)
        self._label_of = label_of
        self._labels: OrderedDict[int, Kept[str]] = OrderedDict()
        self._clock = clock
        self._avoided_until_s: dict[str, float] = {}
        self._busy: Counter[str] = Counter()
        self._draw = secrets.SystemRandom().random

    async def order_for(self, repository_id: int) -> Sequence[GitNode]:
        """Whom to ask, one after another. Raises `NoGitNode`."""
        nodes = await self._nodes.get()
        if not nodes:
            nodes = await self._nodes.renewed()
        if not nodes:
            raise NoGitNode("no node of the cluster serves Git now: try again in a moment")
        return order_of_asking(
            repository_id,
            nodes,
            label=await self._label(repository_id),
            avoided=self._avoided(),
            load=self._busy,
            draw=self._draw,
        )

    def failed(self, node: GitNode) -> None:
        """Ask it last for some seconds, and look again who lives."""
        self._avoided_until_s[node.id] = self._clock.monotonic_s() + _AVOIDED_S

    @contextmanager
    def busy(self, node: GitNode) -> Iterator[None]:
        """The node works for us during the block."""
        self._busy[node.id] += 1
        try:
            yield
        finally:
            self._busy[node.id] -= 1
            if not self._busy[node.id]:
                del self._busy[node.id]

    def _avoided(self) -> frozenset[str]:
        now_s = self._clock.monotonic_s()
        self._avoided_until_s = {
            name: until for name, until in self._avoided_until_s.items() if until > now_s
        }
        return frozenset(self._avoided_until_s)

    async def _label(self, repository_id: int) -> str:
        """A label is for warmth: while it cannot be found out, there is none."""
        kept = self._labels.get(repository_id)
        if kept is None:
            kept = Kept(lambda: self._label_of(repository_id), fresh_s=_LABELS_FRESH_S, clock=self._clock)
            self._labels[repository_id] = kept
            if len(self._labels) > _LABELS_MAX:
                self._labels.popitem(last=False)
        try:
            return await kept.get()
        except Unavailable:
            return ""
