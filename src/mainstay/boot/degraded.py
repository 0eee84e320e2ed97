"""Reads that go on while the database is away, where the operator wants it (`stale_reads_seconds`).

Put together for one process: a look at the database twice a second or so, what was known, the ledger and the
gate that answer from it, and a question to all nodes before they do. With SQLite there is no such thing: its
database is where its data is.
"""

from dataclasses import dataclass

from mainstay.boot.layout import Layout
from mainstay.boot.membership import secret_key
from mainstay.boot.stores import Stores
from mainstay.cache.fallback import FallbackLedger
from mainstay.cache.known import KnownFile
from mainstay.cache.outage import Outage
from mainstay.cluster import nodes
from mainstay.cluster.absence import LOOK_S_MAX, Absence, Others
from mainstay.cluster.line import Line, open_line
from mainstay.cluster.nodes import node_id
from mainstay.cluster.peers import PeerQuestions, peer_token
from mainstay.cluster.prober import Prober
from mainstay.foundation.clock import SYSTEM

_LOOK_EVERY_S = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """What one process falls back on. `start` it, and `close` it at the end."""

    outage: Outage
    known: KnownFile
    ledger: FallbackLedger
    key: bytes
    """For keyed hashes of what must not be kept itself."""
    _prober: Prober
    _line: Line
    _absence: Absence

    def start(self) -> None:
        self._prober.start()
        self.ledger.start()

    def close(self) -> None:
        self._prober.stop()
        self.ledger.close()
        self._absence.close()
        self._line.close()
        self.known.close()


def fallback_of(stores: Stores) -> Fallback | None:
    """None where reads are not to go on."""
    settings = stores.settings
    if settings.stale_reads_seconds == 0 or stores.database.dialect == "sqlite":
        return None
    line = open_line(settings.database_url, limit_s=LOOK_S_MAX)
    others = Others(lambda: nodes.list_nodes(line), me=node_id(settings.data), clock=SYSTEM)
    prober = Prober("fallback", others.look, every_s=_LOOK_EVERY_S, clock=SYSTEM)
    absence = Absence(
        look=lambda: _look_anew(settings.database_url),
        peers=others.to_ask,
        questions=PeerQuestions(peer_token(secret_key(stores))),
    )
    outage = Outage(
        last_failed=lambda: prober.last_failed,
        seen_ago_s=lambda: prober.seen_ago_s,
        window_s=settings.stale_reads_seconds,
        clock=SYSTEM,
        is_certain=absence.is_certain,
    )
    known = KnownFile(Layout(settings.data).cache / "known.db", SYSTEM)
    return Fallback(
        outage=outage,
        known=known,
        ledger=FallbackLedger(stores.database, SYSTEM, known=known, outage=outage, tell=stores.hints.tell),
        key=secret_key(stores).encode(),
        _prober=prober,
        _line=line,
        _absence=absence,
    )


def _look_anew(database_url: str) -> None:
    """By a connection of its own, so that nothing that was found before counts."""
    line = open_line(database_url, limit_s=LOOK_S_MAX)
    try:
        with line.read() as tx:
            tx.row("SELECT 1")
    finally:
        line.close()
