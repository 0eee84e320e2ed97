"""How far replicas are: asked on the primary for all of them, on a replica for itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mainstay.boot.layout import Layout
from mainstay.boot.managed_database import server_of
from mainstay.boot.replica import pull_directory
from mainstay.boot.replicating import stream_of
from mainstay.boot.stores import Stores
from mainstay.cluster.epochs.own import look_at
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.sites.positions import Acknowledged, Positions
from mainstay.cluster.sites.puller_state import PullerState, read_state, why_paused
from mainstay.cluster.sites.registry import Site, sites
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import MainstayError, NotFound
from mainstay.ops.sites.lags import (
    DATABASE,
    SETTINGS,
    Level,
    Report,
    Stream,
    as_answer,
    headline,
    judge,
    overall,
)
from mainstay.ops.sites.memory import Memory
from mainstay.provision.postgresql import Follower, Primary, Standby
from mainstay.storage.database.fence import refusal_for
from mainstay.storage.feed.classes import CLASSES, UnknownClass, class_of
from mainstay.storage.feed.log import Entry, Feed, FeedGone
from mainstay.storage.journal import commit_key

_PAGES_MAX: Final = 64
"""Of the feed, read for one replica: some hundred thousand objects."""


class NoSites(NotFound):
    """There are no other sites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What one look found."""

    role: str
    site: str
    reports: Sequence[Report]

    @property
    def level(self) -> Level:
        """The worst of all."""
        return overall([judge(report) for report in self.reports])

    @property
    def headline(self) -> str:
        """One line, as monitoring of the Nagios kind reads it."""
        return headline(self.reports)

    def answer(self) -> dict[str, Any]:
        """For `--json` and the API."""
        return {
            "role": self.role,
            "site": self.site,
            "level": self.level.name.lower(),
            "says": self.headline,
            "replicas": [as_answer(report) for report in self.reports],
        }


def overview(stores: Stores) -> Overview:
    """Raises `NoSites`, `Unavailable`."""
    standing = SiteFile(stores.settings.data).read()
    if standing is None:
        raise NoSites("there are no other sites: `mainstay replica token` on the primary lets one in")
    listed = sites(stores.database)
    me = next((site for site in listed if site.id == standing.site_id), None)
    name = me.name if me else standing.site_id
    if _in_recovery(stores):
        return Overview(role="replica", site=name, reports=[_own(stores, me, name)])
    refused = refusal_for(standing, None, boot="", now_s=0.0)
    if refused is not None and refused.is_final:
        return Overview(role="superseded", site=name, reports=[Report(site=name, failure=refused.because)])
    others = [site for site in listed if site.id != standing.site_id]
    return Overview(role="primary", site=name, reports=_of_all(stores, others))


def _in_recovery(stores: Stores) -> bool:
    look = look_at(stores.settings.database_url)
    try:
        found = look()
    finally:
        look.close()
    return found.in_recovery if found else False


# On the primary
def _of_all(stores: Stores, others: Sequence[Site]) -> list[Report]:
    followers = {each.site: each for each in Primary(server_of(stores.settings.data)).followers()}
    positions = Positions(Layout(stores.settings.data).sites).all()
    return [
        _of_one(stores, site, followers.get(stream_of(site.id)), positions.get(site.id)) for site in others
    ]


def _of_one(
    stores: Stores, site: Site, follower: Follower | None, acknowledged: Acknowledged | None
) -> Report:
    heard_ms = acknowledged.at_ms if acknowledged else site.acknowledged_ms
    database = Stream(
        name=DATABASE,
        bytes=follower.replayed_behind_bytes if follower else None,
        seconds=_seconds(follower),
    )
    return Report(
        site=site.name,
        mode=site.mode,
        state=site.state,
        delay_s=site.delay_s,
        silent_s=(SYSTEM.now_ms() - heard_ms) / 1000 if heard_ms else None,
        needs_a_copy=follower is not None and follower.needs_a_copy,
        is_synchronous=follower is not None and follower.is_synchronous,
        streams=[
            database,
            *_objects_behind(stores, acknowledged),
            Stream(name=SETTINGS, bytes=database.bytes, seconds=database.seconds),
        ],
        note="" if follower and follower.is_streaming else "its database is not connected",
    )


def _seconds(follower: Follower | None) -> float | None:
    if follower is None or not follower.is_streaming:
        return None
    if follower.replayed_behind_s is None:
        return 0.0 if not follower.replayed_behind_bytes else None
    return follower.replayed_behind_s


def _objects_behind(stores: Stores, acknowledged: Acknowledged | None) -> list[Stream]:
    """By class, from the part of our feed that the site has not acknowledged."""
    pending = _pending(Feed(Layout(stores.settings.data).feed), acknowledged)
    if pending is None:
        return [Stream(name=each.name) for each in CLASSES]
    return [_stream_of(each.name, pending) for each in CLASSES]


def _pending(feed: Feed, acknowledged: Acknowledged | None) -> list[Entry] | None:
    """None: it compares everything, and so nothing is known."""
    try:
        if acknowledged is None or acknowledged.identity != feed.identity:
            return None
        found, position = [], acknowledged.position
        for _ in range(_PAGES_MAX):
            page = feed.read(position)
            if not page.entries:
                break
            for entry in page.entries:
                end = position + len(entry.line)
                if not entry.is_deleted and not acknowledged.has(feed.identity, position, end):
                    found.append(entry)
                position = end
    except FeedGone:
        return None
    return found


def _stream_of(name: str, pending: Sequence[Entry]) -> Stream:
    ours = [entry for entry in pending if _class_name(entry.key) == name]
    oldest_ms = min((entry.at_ms for entry in ours), default=SYSTEM.now_ms())
    return Stream(
        name=name,
        bytes=sum(entry.size_bytes for entry in ours),
        items=len(ours),
        seconds=max(0.0, (SYSTEM.now_ms() - oldest_ms) / 1000),
    )


def _class_name(key: str) -> str:
    try:
        return class_of(key).name
    except UnknownClass:
        return ""


# On a replica
def _own(stores: Stores, me: Site | None, name: str) -> Report:
    heard = Memory(stores.settings.data).heard()
    lag = Standby(server_of(stores.settings.data)).lag()
    database = Stream(name=DATABASE, bytes=lag.bytes, seconds=lag.seconds)
    directory = pull_directory(stores.settings.data)
    state = read_state(directory)
    paused = why_paused(directory)
    return Report(
        site=name,
        mode=me.mode if me else "async",
        state="paused" if paused is not None else (me.state if me else "active"),
        delay_s=me.delay_s if me else 0,
        silent_s=(SYSTEM.now_ms() - heard.at_ms) / 1000 if heard else None,
        is_synchronous=heard is not None and heard.waits_for_us,
        streams=[
            database,
            *_pulled(state),
            Stream(name=SETTINGS, bytes=database.bytes, seconds=database.seconds),
        ],
        note=_note(state, is_streaming=lag.is_streaming),
    )


def _pulled(state: PullerState | None) -> list[Stream]:
    behind: Mapping[str, Any] = state.behind if state else {}
    return [
        Stream(
            name=each.name,
            bytes=behind[each.name].bytes if each.name in behind else None,
            items=behind[each.name].items if each.name in behind else None,
            seconds=behind[each.name].seconds if each.name in behind else None,
        )
        for each in CLASSES
    ]


def _note(state: PullerState | None, *, is_streaming: bool) -> str:
    if not is_streaming:
        return "the database is not connected to its primary"
    if state is not None and state.phase not in ("following", "paused"):
        return f"objects: {state.phase}{': ' + state.because if state.because else ''}"
    return ""


# One project
def why(stores: Stores, path: str) -> dict[str, Any]:
    """What is here of a project, and what is not. Raises `NotFound`."""
    with stores.database.read() as tx:
        row = tx.row(
            "SELECT repository_id FROM projects_project WHERE full_path_lower = ?", (path.lower().strip("/"),)
        )
    if row is None:
        raise NotFound(f"there is no project {path!r} in the database here (yet)")
    repository = stores.ledger.repository(int(row[0]))
    packs = stores.ledger.packs(repository.id)[2]
    missing = [
        f"{pack.key}.{ending}"
        for pack in packs
        for ending in ("pack", "idx")
        if stores.objects.size_bytes(f"{pack.key}.{ending}") is None
    ]
    next_there = stores.objects.size_bytes(commit_key(repository.uid, repository.version + 1)) is not None
    return {
        "project": path,
        "version": repository.version,
        "write_state": repository.write_state,
        "packs": len(packs),
        "missing": missing,
        "journal_is_ahead": next_there,
        "primary_version": _version_there(stores, repository.id),
    }


def _version_there(stores: Stores, repository_id: int) -> int | None:
    """Of the last push of the primary, when that was to this repository."""
    try:
        heard = Memory(stores.settings.data).heard()
    except MainstayError:
        return None
    push = heard.last_push if heard else None
    return push.version if push is not None and push.repository_id == repository_id else None
