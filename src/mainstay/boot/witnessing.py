"""Where the witness of this installation is, kept with the secrets that all sites share, and how it is asked.

Said once, on the primary (`mainstay failover --automatic --witness URL`), and replicated to every other site.
What was read is remembered on the disk, so that a site whose database is away still asks its witness.
"""

import json
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from mainstay.boot.layout import Layout
from mainstay.boot.membership import secrets_of
from mainstay.boot.stores import Stores
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.reading_line import ReadingLine, open_reading_line
from mainstay.cluster.secrets import secrets_in
from mainstay.cluster.witness import Witness
from mainstay.cluster.witness.arbiter import WitnessArbiter
from mainstay.cluster.witness.bucket import open_bucket_witness
from mainstay.cluster.witness.process import ProcessWitness
from mainstay.cluster.witness.promising import NobodyPromises, ask_to_stand
from mainstay.cluster.witness.terms import Terms
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import Secret
from mainstay.storage.database import Database
from mainstay.storage.database.fence import Claim

_NAME = "witness"
_LOOK_S_MAX = 5.0
TERMS = Terms()


class BadWhereabouts(Invalid):
    """The witness cannot be reached by what was said about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """How a site reaches the witness."""

    url: str
    token: str = ""
    authority: str = ""
    """PEM: who signed its certificate; empty: the system knows."""
    is_ending: bool = False
    """Automatic failover is being switched off: the primary has to let the witness name nobody first."""
    is_forced: bool = False
    """… without asking the witness, which is gone for ever."""

    def __repr__(self) -> str:
        return f"Whereabouts({self.url!r})"

    @property
    def address(self) -> "Whereabouts":
        """The same place, whatever is going on."""
        return replace(self, is_ending=False, is_forced=False)


def whereabouts(database: Database | ReadingLine, data: Path) -> Whereabouts | None:
    """None: automatic failover is off. Raises `Unavailable`."""
    reading = cast("Database", database)  # which is all that it takes to get one
    kept = secrets_in(reading, data, SYSTEM).get(_NAME)
    return Whereabouts(**json.loads(kept)) if kept else None


def remember(stores: Stores, found: Whereabouts | None) -> None:
    """For all sites, from now on. None: forget it."""
    secrets_of(stores).put(_NAME, json.dumps(asdict(found)) if found else "")


def forget_at_once(stores: Stores) -> None:
    """On a site that was promoted without the witness: no lease is needed here from now on."""
    SiteFile(stores.settings.data).need_lease(needed=False)
    remember(stores, None)


def open_witness(found: Whereabouts) -> Witness:
    """Raises `BadWhereabouts`; a bucket that does not keep conditions is refused, `NoConditions`."""
    if not found.url.startswith(("http:", "https:")):
        return open_bucket_witness(found.url)
    try:
        tls = ssl.create_default_context(cadata=found.authority) if found.authority else None
    except ssl.SSLError as error:
        raise BadWhereabouts(f"the authority of the witness is no PEM certificate: {error.reason}") from error
    return ProcessWitness(found.url, token=Secret(found.token), tls=tls)


def witness_of(stores: Stores) -> Witness | None:
    """None: there is none. Asked of a database in whatever role: it may be in the middle of a change."""
    with closing(open_reading_line(stores.settings.database_url, limit_s=_LOOK_S_MAX)) as reading:
        found = whereabouts(reading, stores.settings.data)
    return open_witness(found) if found else None


class WitnessSource:
    """Where the sentinel hears of promotions, beside the other sites and the object store."""

    def __init__(self, database: ReadingLine, data: Path) -> None:
        self._database = database
        self._data = data
        self._opened: tuple[Whereabouts, Witness] | None = None

    def __call__(self) -> Claim | None:
        found = whereabouts(self._database, self._data)
        if found is None:
            return None
        if self._opened is None or self._opened[0] != found.address:
            self._opened = (found.address, open_witness(found))
        seen = self._opened[1].look()
        return seen.record.claim if seen else None


class PersonsArbiter(WitnessArbiter):
    """The witness, for a person who promotes this site: what this site has promised is waited for, too."""

    def __init__(self, witness: Witness, run: Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(witness, TERMS, sleep=sleep)
        self._run = run

    def name(self, claim: Claim) -> None:
        """As of any arbiter, and from when it returns nobody else may write."""
        try:
            left_s = ask_to_stand(self._run, claim.epoch)
        except NobodyPromises:
            left_s = TERMS.term_s  # one that was killed a moment ago may have promised
        until_s = SYSTEM.monotonic_s() + left_s
        super().name(claim)
        self._sleep(max(0.0, until_s - SYSTEM.monotonic_s()))


def arbiter_of(stores: Stores) -> WitnessArbiter | None:
    """For a site that was handed the word, and need not wait for what it has promised; None: no witness."""
    witness = witness_of(stores)
    return WitnessArbiter(witness, TERMS) if witness else None


def answering_arbiter(stores: Stores) -> WitnessArbiter | None:
    """The same, after a look. Raises `WitnessAway`."""
    arbiter = arbiter_of(stores)
    if arbiter is not None:
        arbiter.last()
    return arbiter


def persons_arbiter(stores: Stores) -> PersonsArbiter | None:
    """None: there is no witness. Raises `WitnessAway`, before anything is changed."""
    witness = witness_of(stores)
    if witness is None:
        return None
    arbiter = PersonsArbiter(witness, Layout(stores.settings.data).run)
    arbiter.last()
    return arbiter
