"""Is the database away for everybody, now?

Whoever answers from memory must not do so while somebody else takes pushes. So nobody is believed who was
asked a moment ago: `Absence.is_certain` looks at the database by a new connection and asks every other node
that may be alive (`Others`), all after the call. It is certain only if there was no answer
here and every one of them said that it gets none, either. A node that says nothing may be taking pushes.

A database that takes longer than `LOOK_S_MAX` for its answer counts as away.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from mainstay.cluster import nodes
from mainstay.cluster.nodes import LIVE_MS, Listing, NodeRow
from mainstay.cluster.peers import PEERS_MAX, Questions
from mainstay.cluster.watch import DATABASE
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.logs import get_logger

LOOK_S_MAX = 1.5
SETTLED_S = 1.5 * LIVE_MS / 1000
"""After so long with the database a node that does not beat is dead, and not only late."""
_LOOKS_MAX = 4
"""A look that hangs does not keep the next from beginning."""

log = get_logger()


class Others:
    """The nodes besides this one that may be alive, as of the last good look at the database."""

    def __init__(self, list_nodes: Callable[[], Listing], *, me: str, clock: Clock) -> None:
        self._list_nodes = list_nodes
        self._me = me
        self._clock = clock
        self._known: Sequence[NodeRow] | None = None
        self._seen_since_s: float | None = None

    def look(self) -> None:
        """Read the list. Raises what reading raises."""
        since_s, self._seen_since_s = self._seen_since_s, None
        listing = self._list_nodes()
        now_s = self._clock.monotonic_s()
        self._seen_since_s = now_s if since_s is None else since_s
        is_settled = now_s - self._seen_since_s > SETTLED_S
        self._known = may_live(listing, me=self._me, is_settled=is_settled)

    def to_ask(self) -> Sequence[NodeRow] | None:
        """None: the list was never read."""
        return self._known


def may_live(listing: Listing, *, me: str, is_settled: bool) -> list[NodeRow]:
    """The other nodes that may be alive. Pure.

    After an outage all nodes look dead until they beat again; so until things have settled only those that
    have said that they stop are believed to be gone.
    """
    gone = ("stopped", "dead") if is_settled else ("stopped",)
    others = [node for node in listing.nodes if node.id != me]
    return [node for node in others if nodes.condition_of(node, listing.now_ms) not in gone]


class Absence:
    """For many threads: who asks at the same time is told the same, by a round that began after the call."""

    def __init__(
        self,
        *,
        look: Callable[[], object],
        peers: Callable[[], Sequence[NodeRow] | None],
        questions: Questions,
        look_s_max: float = LOOK_S_MAX,
    ) -> None:
        """`look` connects anew and raises a known error when there is no database.

        `peers` are the others that were alive when the database was last seen; None: it never was.
        """
        self._look = look
        self._peers = peers
        self._questions = questions
        self._look_s_max = look_s_max
        self._looks = ThreadPoolExecutor(_LOOKS_MAX, thread_name_prefix="absence")
        self._changed = threading.Condition()
        self._is_running = False
        self._begun = 0
        self._ended = 0
        self._found = False

    def is_certain(self) -> bool:
        """Whether nobody reaches the database. Takes as long as two rounds at most."""
        with self._changed:
            enough = self._begun + 1
            self._changed.wait_for(lambda: self._ended >= enough or not self._is_running)
            if self._ended >= enough:
                return self._found
            self._is_running = True
            self._begun += 1
        found = False
        try:
            found = self._round()
        finally:
            with self._changed:
                self._found, self._is_running, self._ended = found, False, self._begun
                self._changed.notify_all()
        return found

    def close(self) -> None:
        self._looks.shutdown(wait=False, cancel_futures=True)
        self._questions.close()

    def _round(self) -> bool:
        peers = self._peers()
        if peers is None:
            return False
        own = self._looks.submit(self._answers)
        for first in range(0, len(peers), PEERS_MAX):
            for said in self._questions.ask(peers[first : first + PEERS_MAX], DATABASE):
                if not said.denies:
                    log.info("absence.doubted", node=said.name, well=said.well, reached=said.reached)
                    return False
        return self._is_silent(own)

    def _is_silent(self, own: Future[bool]) -> bool:
        """A look that could not even begin says nothing."""
        try:
            return not own.result(timeout=self._look_s_max)
        except TimeoutError:
            return not own.cancel()

    def _answers(self) -> bool:
        try:
            self._look()
        except (MainstayError, OutcomeUnknown):
            return False
        return True
