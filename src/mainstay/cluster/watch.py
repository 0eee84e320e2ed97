"""Watch what this node depends on, and decide whether trouble is its own (`blame`).

Two probers look at the database and at the object store; a third thread judges what they find. The answer
to "may this node take traffic" is kept ready: nobody who asks for readiness waits for a dependency. The
list of nodes comes along with each look at the database, so it is known when it is needed: in an outage.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mainstay.cluster import nodes
from mainstay.cluster.blame import WELL, Verdict, View, decide, should_send_away
from mainstay.cluster.line import Line
from mainstay.cluster.nodes import Listing, NodeRow
from mainstay.cluster.peers import ANSWER_S, Questions
from mainstay.cluster.prober import Prober
from mainstay.foundation.clock import Clock
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import gauge

log = get_logger()

DATABASE = "database"
OBJECTS = "objects"

LINE_LIMIT_S = 1.5
_DATABASE_EVERY_S = 0.7
_DATABASE_LIMIT_S = 1.0
"""Twice this and the pause make less than three seconds until a node that is alone is out of rotation."""
_OBJECTS_EVERY_S = 5.0
_OBJECTS_PATIENCE_S = 12.0
_OBJECTS_GRACE_S = 30.0
"""An object store may be slow for a moment, and warm repositories do not even notice; and a request that
hung in an outage may hang longer here than elsewhere. Only after this long a node without it is out."""
_NAMES = {DATABASE: "database", OBJECTS: "object store"}

UP = gauge(
    "dependency_up", "Whether a dependency answers this node.", ["dependency"], across="livemostrecent"
)
SEEN_AGE = gauge(
    "dependency_seen_age_seconds", "How long ago it last answered.", ["dependency"], across="livemostrecent"
)
NODES = gauge(
    "cluster_nodes", "Nodes on the list by what they are believed to be.", ["state"], across="livemostrecent"
)


@dataclass(slots=True)
class _Outage:
    """What is remembered of one dependency while it does not answer."""

    verdict: Verdict = WELL
    was_shared: bool = False
    shared_at_s: float = float("-inf")
    """When it was last away for everybody."""
    own_since_s: float | None = None
    """Since when it is this node's own trouble."""


class Watch:
    """One per process that answers for readiness."""

    def __init__(
        self,
        *,
        line: Line,
        look_at_objects: Callable[[], object],
        me: str,
        questions: Questions,
        clock: Clock,
        cut_off: Callable[[str | None], None] = lambda _because: None,
        is_alone: Callable[[], bool] = lambda: False,
    ) -> None:
        """`me` is the id of this node, `look_at_objects` raises a known error when the store is away.

        While `is_alone`, the nodes on the list are another site's, who can say nothing about this one's.

        `cut_off` is told, at each look, why requests should go to another node, or None.
        """
        self._cut_off = cut_off
        self._is_alone = is_alone
        self._line = line
        self._me = me
        self._questions = questions
        self._clock = clock
        self._listing: Listing | None = None
        self._outages = {DATABASE: _Outage(), OBJECTS: _Outage()}
        self._probers = {
            DATABASE: Prober(DATABASE, self._look_at_nodes, every_s=60.0, clock=clock),
            OBJECTS: Prober(OBJECTS, look_at_objects, every_s=_OBJECTS_EVERY_S, clock=clock),
        }
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        for prober in self._probers.values():
            prober.start()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for prober in self._probers.values():
            prober.stop()
        self._line.close()
        self._questions.close()

    @property
    def verdict(self) -> Verdict:
        """What speaks most against this node."""
        verdicts = [outage.verdict for outage in self._outages.values()]
        against = [verdict for verdict in verdicts if not verdict.takes_traffic]
        shared = [verdict for verdict in verdicts if verdict.kind == "shared"]
        return [*against, *shared, WELL][0]

    def seen_ago_s(self, dependency: str) -> float:
        """How long ago it answered last."""
        return self._probers[dependency].seen_ago_s

    def is_well(self, dependency: str) -> bool:
        """For another node that asks: does it answer this node, from now on within a moment? Blocks."""
        prober = self._probers.get(dependency)
        return prober is not None and prober.answers_within(ANSWER_S)

    @property
    def peers(self) -> Sequence[NodeRow]:
        """The other nodes that were alive when the database was last seen."""
        listing = self._listing
        if listing is None or self._is_alone():
            return []
        return [node for node in listing.nodes if node.id != self._me and nodes.is_live(node, listing.now_ms)]

    def _look_at_nodes(self) -> None:
        self._listing = nodes.list_nodes(self._line)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began_s = self._clock.monotonic_s()
            self.turn()
            self._stopping.wait(max(0.0, began_s + _DATABASE_EVERY_S - self._clock.monotonic_s()))

    def turn(self) -> None:
        """Look once, judge, and tell the metrics."""
        self._judge(DATABASE, self._probers[DATABASE].answers_within(_DATABASE_LIMIT_S))
        if self._outages[DATABASE].verdict.kind == "alone":
            # It may have come back between the two looks, the other's and ours.
            self._judge(DATABASE, self._probers[DATABASE].answers_within(_DATABASE_LIMIT_S))
        self._judge(OBJECTS, self._probers[OBJECTS].seen_ago_s < _OBJECTS_PATIENCE_S)
        self._count_nodes()

    def _judge(self, dependency: str, answers: bool) -> None:
        outage = self._outages[dependency]
        view = View(
            dependency=_NAMES[dependency],
            answers=answers,
            peers=[] if answers else self._questions.ask(self.peers, dependency),
            was_shared=outage.was_shared,
        )
        verdict = self._with_grace(dependency, decide(view))
        if verdict.kind != outage.verdict.kind:
            say = log.info if verdict is WELL else log.warning
            say("watch.judged", dependency=dependency, verdict=verdict.kind, because=verdict.because)
        outage.verdict = verdict
        if verdict.kind == "shared":
            outage.shared_at_s = self._clock.monotonic_s()
        if dependency == DATABASE:
            shared_ago_s = self._clock.monotonic_s() - outage.shared_at_s
            sends_away = should_send_away(verdict, shared_ago_s=shared_ago_s)
            self._cut_off(verdict.because if sends_away else None)
        outage.was_shared = verdict.kind == "shared" and bool(view.peers)
        UP.labels(dependency).set(answers)
        SEEN_AGE.labels(dependency).set(self._probers[dependency].seen_ago_s)

    def _with_grace(self, dependency: str, verdict: Verdict) -> Verdict:
        """The object store is less urgent: trouble of this node's own counts when it lasts."""
        outage, now_s = self._outages[dependency], self._clock.monotonic_s()
        if verdict.takes_traffic:
            outage.own_since_s = None
        elif outage.own_since_s is None:
            outage.own_since_s = now_s
        if dependency == DATABASE or outage.own_since_s is None:
            return verdict
        lasted = now_s - outage.own_since_s >= _OBJECTS_GRACE_S
        return verdict if lasted else Verdict("shared", f"{verdict.because}, so far")

    def _count_nodes(self) -> None:
        listing = self._listing
        if listing is None:
            return
        conditions = [nodes.condition_of(node, listing.now_ms) for node in listing.nodes]
        for state in ("starting", "ready", "draining", "stopped", "dead"):
            NODES.labels(state).set(conditions.count(state))
