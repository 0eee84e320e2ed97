"""The list of sites: plain SQL over `cluster_site` and `cluster_site_certificate`.

The primary writes it, and every replica has it with the rest of the database. The primary is on the list,
too, so that after a promotion nobody has to be told who it was. A site that was removed stays on the list,
under a name that nobody needs, until it comes back by a new token; its certificates stay revoked.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from mainstay.cluster.nodes import now_ms
from mainstay.cluster.reading_line import ReadingLine
from mainstay.foundation.errors import Conflict, Invalid, NotFound
from mainstay.foundation.ids import is_ulid
from mainstay.foundation.logs import get_logger
from mainstay.storage.database import Database, Transaction

if TYPE_CHECKING:
    from mainstay.cluster.authority import Issued

log = get_logger()

SiteKind = Literal["replica", "cache"]
SiteMode = Literal["sync", "async"]
SiteState = Literal["active", "joining", "paused", "removed"]
"""`joining`: synchronous once it has caught up; until then nobody waits for it."""

DELAY_S_MAX: Final = 30 * 24 * 3600
SITES_MAX: Final = 1000
_PATTERNS_MAX: Final = 100
_PATTERN: Final = re.compile(r"[A-Za-z0-9_.*?/-]{1,255}")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,240}):[0-9]{1,5}")
_URL: Final = re.compile(r"https?://[!-~]{1,2000}")
_COLUMNS: Final = (
    "id, name, kind, mode, delay_s, patterns, sites_address, database_address, url, state, added_ms,"
    " feed, position, acknowledged_ms"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM cluster_site"  # noqa: S608 - a constant
_CERTIFICATES_KEPT: Final = 3
"""Of one site that are good at the same time: the one in use, and those whose answer may have been lost."""


class NotASite(Invalid):
    """What a site says about itself cannot be."""


class NoSuchSite(NotFound):
    """Nobody of that name or id is on the list."""


class NameTaken(Conflict):
    """Another site has the name, or the id belongs to another name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One site, as the list has it."""

    id: str
    name: str
    kind: SiteKind = "replica"
    mode: SiteMode = "async"
    delay_s: int = 0
    patterns: tuple[str, ...] = ()
    sites_address: str = ""
    database_address: str = ""
    url: str = ""
    state: SiteState = "active"
    added_ms: int = 0
    feed: str = ""
    position: int = 0
    acknowledged_ms: int = 0

    @property
    def is_waited_for(self) -> bool:
        """Whether a push must not commit before this site has its objects."""
        return self.state == "active" and self.mode == "sync" and self.kind == "replica"


@dataclass(frozen=True, slots=True)
class Entitled:
    """What the list says of a certificate."""

    site: Site
    is_good: bool
    """Not revoked, not ended, and its site was not removed."""


def checked(site: Site) -> Site:
    """The site, if all it says can be. Raises `NotASite`."""
    problem = _problem(site)
    if problem is not None:
        raise NotASite(problem)
    return site


def _problem(site: Site) -> str | None:
    """The first of those that are there."""
    addresses = filter(None, (site.sites_address, site.database_address))
    patterns_fit = len(site.patterns) <= _PATTERNS_MAX and all(map(_PATTERN.fullmatch, site.patterns))
    waits = site.delay_s > 0 or site.kind == "cache"
    rules = {
        "a site is known by a ULID": is_ulid(site.id),
        f"{site.name!r}: the name of a site has letters, digits, dots and dashes, at most 63": bool(
            _NAME.fullmatch(site.name)
        ),
        "a site is a replica or a cache": site.kind in get_args(SiteKind),
        "a site is sync or async": site.mode in get_args(SiteMode),
        "what is delayed, or a cache, cannot be sync: pushes would wait for it": not (
            site.mode == "sync" and waits
        ),
        f"a replica is delayed by at most {DELAY_S_MAX // 86400} days": 0 <= site.delay_s <= DELAY_S_MAX,
        f"patterns are at most {_PATTERNS_MAX}, such as group/** or group/project": patterns_fit,
        "an address is HOST:PORT": all(map(_ADDRESS.fullmatch, addresses)),
        "the URL of a site is http(s)://HOST": not site.url or bool(_URL.fullmatch(site.url)),
    }
    return next((sentence for sentence, holds in rules.items() if not holds), None)


def sites(database: ReadingLine) -> list[Site]:
    """All but the removed ones, by name."""
    with database.read() as tx:
        rows = tx.rows(f"{_SELECT} WHERE state <> 'removed' ORDER BY name LIMIT {SITES_MAX}")
    return [_site(row) for row in rows]


def site_by(database: ReadingLine, name_or_id: str) -> Site:
    """The site of that name or id, unless it was removed. Raises `NoSuchSite`."""
    with database.read() as tx:
        row = tx.row(f"{_SELECT} WHERE (name = ? OR id = ?) AND state <> 'removed'", (name_or_id, name_or_id))
    if row is None:
        raise NoSuchSite(f"there is no site {name_or_id!r}: `mainstay replica status` lists them")
    return _site(row)


def put_site(tx: Transaction, site: Site) -> Site:
    """Put it on the list, or in the place of what it said before. Raises `NotASite`, `NameTaken`.

    A site that comes back keeps what it has acknowledged; one that was removed begins anew.
    """
    checked(site)
    with_name = tx.row(f"{_SELECT} WHERE name = ? AND id <> ?", (site.name, site.id))
    if with_name is not None and not _make_room(tx, _site(with_name)):
        raise NameTaken(
            f"another site is called {site.name!r}: choose a name, or remove that one with"
            f" `mainstay replica remove {site.name}`"
        )
    found = tx.row(f"{_SELECT} WHERE id = ?", (site.id,))
    before = _site(found) if found else None
    if before is not None and before.state != "removed" and before.name != site.name:
        raise NameTaken(f"the site {site.id} is on the list as {before.name!r}")
    made = _succeeding(before, site, now=now_ms(tx))
    tx.execute("DELETE FROM cluster_site WHERE id = ?", (made.id,))
    places = ", ".join("?" * (_COLUMNS.count(",") + 1))
    tx.execute(f"INSERT INTO cluster_site ({_COLUMNS}) VALUES ({places})", _row(made))  # noqa: S608 - constants
    return made


def _succeeding(before: Site | None, site: Site, *, now: int) -> Site:
    if before is None or before.state == "removed":
        return replace(site, state="active", added_ms=now)
    return replace(
        site,
        state=before.state,
        added_ms=before.added_ms,
        feed=before.feed,
        position=before.position,
        acknowledged_ms=before.acknowledged_ms,
    )


def _make_room(tx: Transaction, holder: Site) -> bool:
    """Take the name from a site that was removed."""
    return bool(
        tx.execute(
            "UPDATE cluster_site SET name = ? WHERE id = ? AND state = 'removed'", (holder.id, holder.id)
        )
    )


def put_certificate(tx: Transaction, site_id: str, issued: "Issued") -> None:
    """Let who has this certificate speak as the site. The oldest of several lose that."""
    now = now_ms(tx)
    tx.execute("DELETE FROM cluster_site_certificate WHERE expires_ms < ?", (now,))
    tx.execute(
        "INSERT INTO cluster_site_certificate (serial, site_id, issued_ms, expires_ms, revoked_ms)"
        " VALUES (?, ?, ?, ?, 0)",
        (issued.serial, site_id, now, issued.expires_ms),
    )
    tx.execute(
        "UPDATE cluster_site_certificate SET revoked_ms = ? WHERE site_id = ? AND revoked_ms = 0"
        " AND serial NOT IN (SELECT serial FROM cluster_site_certificate WHERE site_id = ?"
        " ORDER BY issued_ms DESC, serial LIMIT ?)",
        (now, site_id, site_id, _CERTIFICATES_KEPT),
    )


def entitled(database: Database, serial: str) -> Entitled | None:
    """Who may speak by this certificate; None: nobody."""
    with database.read() as tx:
        row = tx.row(
            f"SELECT revoked_ms, expires_ms, {', '.join(f's.{name.strip()}' for name in _COLUMNS.split(','))}"  # noqa: S608 - constants
            " FROM cluster_site_certificate c JOIN cluster_site s ON s.id = c.site_id WHERE c.serial = ?",
            (serial,),
        )
        if row is None:
            return None
        site = _site(row[2:])
        return Entitled(site, not row[0] and int(row[1]) > now_ms(tx) and site.state != "removed")


def remove(database: Database, name_or_id: str) -> Site:
    """Take a site off the list and revoke its certificates. Raises `NoSuchSite`."""
    site = site_by(database, name_or_id)
    with database.write() as tx:
        now = now_ms(tx)
        tx.execute(
            "UPDATE cluster_site SET state = 'removed', feed = '', position = 0 WHERE id = ?", (site.id,)
        )
        tx.execute(
            "UPDATE cluster_site_certificate SET revoked_ms = ? WHERE site_id = ? AND revoked_ms = 0",
            (now, site.id),
        )
    log.info("sites.removed", site=site.name, site_id=site.id)
    return replace(site, state="removed")


def change(
    database: Database,
    name_or_id: str,
    *,
    state: Literal["active", "joining", "paused"] | None = None,
    mode: SiteMode | None = None,
) -> Site:
    """Pause or resume a site, or let pushes wait for it or not. Raises `NoSuchSite`, `NotASite`."""
    before = site_by(database, name_or_id)
    site = checked(replace(before, state=state or before.state, mode=mode or before.mode))
    with database.write() as tx:
        tx.execute(
            "UPDATE cluster_site SET state = ?, mode = ? WHERE id = ? AND state <> 'removed'",
            (site.state, site.mode, site.id),
        )
    log.info("sites.changed", site=site.name, state=site.state, mode=site.mode)
    return site


def note_acknowledged(database: Database, site_id: str, *, feed: str, position: int, at_ms: int) -> None:
    """Keep how far a site is. What is older than what is kept changes nothing."""
    with database.write() as tx:
        tx.execute(
            "UPDATE cluster_site SET feed = ?, position = ?, acknowledged_ms = ?"
            " WHERE id = ? AND state <> 'removed' AND acknowledged_ms <= ?",
            (feed, position, at_ms, site_id, at_ms),
        )


def revoked_serials(database: Database) -> Mapping[str, int]:
    """Certificates that have not ended and are good no more, and since when."""
    with database.read() as tx:
        rows = tx.rows(
            "SELECT serial, revoked_ms FROM cluster_site_certificate"
            " WHERE revoked_ms > 0 AND expires_ms > ? ORDER BY serial",
            (now_ms(tx),),
        )
    return {str(serial): int(revoked_ms) for serial, revoked_ms in rows}


def _site(row: Sequence[Any]) -> Site:
    return Site(
        id=str(row[0]),
        name=str(row[1]),
        kind=cast("SiteKind", row[2]),
        mode=cast("SiteMode", row[3]),
        delay_s=int(row[4]),
        patterns=tuple(json.loads(row[5])),
        sites_address=str(row[6]),
        database_address=str(row[7]),
        url=str(row[8]),
        state=cast("SiteState", row[9]),
        added_ms=int(row[10]),
        feed=str(row[11]),
        position=int(row[12]),
        acknowledged_ms=int(row[13]),
    )


def _row(site: Site) -> tuple[Any, ...]:
    return (
        site.id,
        site.name,
        site.kind,
        site.mode,
        site.delay_s,
        json.dumps(list(site.patterns)),
        site.sites_address,
        site.database_address,
        site.url,
        site.state,
        site.added_ms,
        site.feed,
        site.position,
        site.acknowledged_ms,
    )
