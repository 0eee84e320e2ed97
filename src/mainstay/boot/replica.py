"""`mainstay replica add`: a fresh machine becomes a replica in one run. Again: what is missing is repaired.

1. look at both sides; what is in the way is said at once, and the token stays good;
2. the token is used: keys, settings, certificate and addresses of the primary are written here;
3. PostgreSQL copies the primary's database and stands by for it;
4. every object that is not here yet comes over the line between sites.

Killed in step 1 nothing has happened; between the primary's answer and the files of step 2 (milliseconds)
another token is needed; later the same command goes on where it was. A copy of the database that was broken
off begins anew, objects that are here are not copied twice.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mainstay.boot import joining
from mainstay.boot.inviting import LOCAL
from mainstay.boot.layout import Layout, make_directories
from mainstay.boot.locks import AlreadyRunning, pid_lock
from mainstay.boot.managed_database import server_of
from mainstay.boot.parsing import MANAGED
from mainstay.boot.replica_look import Look, look
from mainstay.boot.replicating import credentials_of, database_address, database_listen, stream_of
from mainstay.boot.settings import NodeSettings, assemble, load_for_command
from mainstay.boot.sites import site_name, sites_address
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.joining import Bundle, JoinToken, unseal
from mainstay.cluster.sites.admission import issued_in, said_by
from mainstay.cluster.sites.identity import SiteIdentity
from mainstay.cluster.sites.line import Line
from mainstay.cluster.sites.puller import Puller, everything
from mainstay.cluster.sites.puller_state import FILE, PullerState
from mainstay.cluster.sites.registry import Site, SiteKind, SiteMode, checked
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.logs import get_logger
from mainstay.ops.sites.memory import Memory
from mainstay.ops.sites.preflight import NotReady, problems
from mainstay.provision.postgresql import Listen, Primary, Standby, Upstream
from mainstay.storage.database.fence import Claim
from mainstay.storage.objects import ObjectStore
from mainstay.storage.objects.opening import open_object_store

log = get_logger()

LET_IN: Final = declare("replica.let_in", "the token is used up and the files of the new site are written")
COPIED: Final = declare("replica.copied", "the database is copied, the objects are not")

SITES_PORT: Final = 7443
"""Where sites reach each other when nobody says otherwise; the database takes the next one."""
_EVERYWHERE: Final = f"0.0.0.0:{SITES_PORT}"
_TELL_EVERY_S: Final = 2.0
_LOOK_S: Final = 0.2
_STOP_S: Final = 15.0
_MIB: Final = 1024**2

Tell = Callable[[str], None]


def not_packs(key: str) -> bool:
    """What a cache has at once; its service takes the packs that are wanted."""
    return not key.startswith("repositories/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the replica shall be."""

    name: str = ""
    kind: SiteKind = "replica"
    mode: SiteMode = "async"
    delay_s: int = 0
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Added:
    """What came of it."""

    site_id: str
    name: str
    primary: str
    instance: str
    objects: int
    """Copied in this run."""
    is_repair: bool
    took_s: float


def primary_at(url: str) -> str:
    """The address that people gave, with the port at which sites reach each other. Raises `NotAnAddress`."""
    joining.join_url(url)
    parts = urlsplit(url)
    return url if parts.port else parts._replace(netloc=f"{parts.netloc}:{SITES_PORT}").geturl()


def reachable(data: Path, local: Mapping[str, str]) -> Mapping[str, str]:
    """Our settings with a port for other sites: as it was chosen, now or before, else the usual one."""
    return {"sites": joining.settings_in(data).get("sites") or _EVERYWHERE, **local}


def examine(url: str, token: JoinToken, data: Path, local: Mapping[str, str]) -> Look:
    """Look at both sides, change nothing. Raises `NotLetIn`, `ClusterUnreachable`."""
    return look(primary_at(url), token, _settings(data, reachable(data, local)))


def add(url: str, token: JoinToken, data: Path, local: Mapping[str, str], wish: Wish, *, tell: Tell) -> Added:
    """Make `data` that of a replica. Raises `NotReady` with everything that is in the way."""
    began_s = SYSTEM.monotonic_s()
    url, local = primary_at(url), reachable(data, local)
    given = Memory(data).adding()
    is_repair = given is not None
    settings = _settings(data, local)
    if given is None or given.get("token") != token.id:
        found = look(url, token, settings)
        in_the_way = problems(found.machine, found.primary)
        if in_the_way:
            raise NotReady(in_the_way)
        given = _let_in(url, token, settings, local, wish)
        tell(f"let in by {given['primary_name']}")
    failpoint(LET_IN)
    settings = load_for_command(data)
    copied = _copy_everything(settings, given, tell=tell)
    took_s = SYSTEM.monotonic_s() - began_s
    log.info("replica.added", site_id=given["id"], primary=given["primary_name"], objects=copied)
    return Added(
        given["id"], given["name"], given["primary_name"], given["instance"], copied, is_repair, took_s
    )


def _settings(data: Path, local: Mapping[str, str]) -> NodeSettings:
    """As they will be, for the addresses in them."""
    return assemble(data, [{**local, "database_url": MANAGED}])


# 2: the files
def _let_in(
    url: str, token: JoinToken, settings: NodeSettings, local: Mapping[str, str], wish: Wish
) -> Mapping[str, str]:
    data = settings.data
    make_directories(Layout(data))
    standing = SiteFile(data).ensure()
    site = checked(
        Site(
            id=standing.site_id,
            name=wish.name or site_name(settings),
            kind=wish.kind,
            mode=wish.mode,
            delay_s=wish.delay_s,
            patterns=wish.patterns,
            sites_address=sites_address(settings),
            database_address=database_address(settings),
            url=settings.external_url,
        )
    )
    with _alone_or_repairing(data):
        sealed = joining.ask(joining.join_url(url), token, site=said_by(site))
        bundle = unseal(token, sealed)
        return _keep(data, bundle, {**local, "database_url": MANAGED}, token, site)


def _keep(
    data: Path, bundle: Bundle, local: Mapping[str, str], token: JoinToken, site: Site
) -> Mapping[str, str]:
    """Everything that the primary gave. The file that says so comes last."""
    ours = {name: text for name, text in local.items() if name in (*LOCAL, "database_url", "object_store")}
    joining.write_bundle(data, bundle, {**ours, "node_name": site.name}, force=False)
    SiteIdentity(data).keep(issued_in(bundle.site))
    facts = {name: text for name, text in bundle.site.items() if name.startswith("primary_")}
    given = {
        **facts,
        "id": site.id,
        "name": site.name,
        "delay_s": str(site.delay_s),
        "kind": site.kind,
        "instance": bundle.instance,
        "token": token.id,
    }
    Memory(data).note_adding(given)
    return given


@contextmanager
def _alone_or_repairing(data: Path) -> Iterator[None]:
    """Nobody starts a node in the middle; one that runs already is being repaired, and goes on."""
    try:
        with pid_lock(Layout(data).pid):
            yield
    except AlreadyRunning:
        if Memory(data).adding() is None:
            raise
        yield


def _is_free(data: Path) -> bool:
    """Whether no node runs here."""
    try:
        with pid_lock(Layout(data).pid):
            return True
    except AlreadyRunning:
        return False


# 3 and 4: the copies
def _copy_everything(settings: NodeSettings, given: Mapping[str, str], *, tell: Tell) -> int:
    data = settings.data
    _copy_database(settings, given, tell=tell)
    failpoint(COPIED)
    line = Line(given["primary_sites_address"], SiteIdentity(data), site_id=given["primary_id"])
    try:
        _note_epoch(data, line)
        if not _is_free(data):
            tell("objects: the running service goes on with them")
            return 0
        objects = open_object_store(settings.object_store)
        if given["kind"] == "replica":
            return copy_objects(line, objects, data, wants=everything, tell=tell)
        copied = copy_objects(line, objects, data, wants=not_packs, tell=tell)
        (pull_directory(data) / FILE).unlink(missing_ok=True)  # the service compares, and takes what matches
        return copied
    finally:
        line.close()


def _copy_database(settings: NodeSettings, given: Mapping[str, str], *, tell: Tell) -> None:
    server = server_of(settings.data, tell=_thinned(tell, prefix="database: "))
    standby = Standby(server)
    upstream, credentials = upstream_of(given, me=given["id"]), credentials_of(settings.data)
    if not (server.exists and server.is_running() and server.wishes.upstream == upstream):
        tell("the database is copied")
        standby.base_backup_from(upstream, credentials)
        tell("the database is here")
    if int(given["delay_s"]):
        standby.follow(upstream, credentials, delay_s=int(given["delay_s"]))
    listen = database_listen(settings)
    if not server.is_running():
        server.keep(credentials)
        server.wish(listen=Listen(host=listen.host, port=listen.port))
    elif server.wishes.listen is None:
        Primary(server).open_for_replicas(Listen(host=listen.host, port=listen.port), credentials)


def upstream_of(given: Mapping[str, str], *, me: str) -> Upstream:
    """The primary's PostgreSQL, as the site `me` reaches it."""
    host, _, port = given["primary_database_address"].rpartition(":")
    return Upstream(
        host=host.strip("[]"), port=int(port), site=stream_of(me), name=stream_of(given["primary_id"])
    )


def _note_epoch(data: Path, line: Line) -> None:
    """From now on this directory is known to be a replica's, also before its first start."""
    said = line.facts().get("highest")
    site = SiteFile(data)
    if isinstance(said, dict):
        claim = Claim(int(said["epoch"]), str(said["site"]), str(said["name"]), str(said["url"]))
        site.record(claim, is_replica=True)


def copy_objects(
    line: Line, objects: ObjectStore, data: Path, *, wants: Callable[[str], bool], tell: Tell
) -> int:
    """Bring every object that is not here in its size; how many came. The service goes on from there."""
    puller = Puller(line, objects, pull_directory(data), clock=SYSTEM, wants=wants)
    stop, told = threading.Event(), _thinned(tell, prefix="objects: ")
    thread = threading.Thread(target=puller.run, args=(stop,), name="puller", daemon=True)
    thread.start()
    try:
        while not puller.state.is_complete:
            if not thread.is_alive():
                raise CopyBroken("the copy of the objects broke off: give the command again")
            _refuse_endless(puller.state)
            told(progress_of(puller.state))
            stop.wait(_LOOK_S)
    finally:
        stop.set()
        thread.join(_STOP_S)
    tell(f"objects: all here, {puller.state.pulled} of them copied now")
    return puller.state.pulled


class CopyBroken(Unavailable):
    """The first copy of the objects did not come to its end."""


def _refuse_endless(state: PullerState) -> None:
    """A primary that does not let us in, or was told to let us rest, stays so until somebody acts."""
    if state.phase == "paused":
        raise CopyBroken(f"the copy of the objects rests: {state.because}")


def progress_of(state: PullerState) -> str:
    left = sum(each.items for each in state.behind.values())
    size = sum(each.bytes for each in state.behind.values())
    done = f"{state.pulled} copied ({state.received_bytes / _MIB:.1f} MiB)"
    seen = f"{state.compared} compared, " if state.phase == "comparing" else ""
    trouble = f"; {state.because}" if state.because else ""
    return f"{seen}{done}, {left} known to be left ({size / _MIB:.1f} MiB){trouble}"


def pull_directory(data: Path) -> Path:
    """What the puller keeps; on the disk of the data directory."""
    return data / "sites" / "pull"


def _thinned(tell: Tell, *, prefix: str) -> Tell:
    """Not more than a line every few seconds."""
    last_s = SYSTEM.monotonic_s()
    lock = threading.Lock()

    def told(line: str) -> None:
        nonlocal last_s
        with lock:
            now_s = SYSTEM.monotonic_s()
            if now_s - last_s < _TELL_EVERY_S:
                return
            last_s = now_s
        tell(prefix + line)

    return told
