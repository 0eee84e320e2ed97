"""What keeps this node on the list of nodes, and tells it how it is: its heart and its watch.

The heart beats in the first data process, for the whole node. Each data process has a watch of its own,
because each of them may be asked for readiness.
"""

import asyncio
import hashlib
import hmac
import os
import platform
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mainstay import __version__
from mainstay.boot.layout import Layout
from mainstay.boot.membership import identity_of, secret_key
from mainstay.boot.migrate import RELEASE_FACT
from mainstay.boot.parsing import Address
from mainstay.boot.settings import NodeSettings, as_text
from mainstay.boot.state import data_names, read_state
from mainstay.boot.stores import Stores
from mainstay.cluster import heart, schema, watch
from mainstay.cluster.heart import Heart
from mainstay.cluster.line import open_line
from mainstay.cluster.nodes import Introduction, State, node_id
from mainstay.cluster.peers import PeerQuestions, peer_token
from mainstay.cluster.watch import Watch
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.settings import from_environment
from mainstay.git.native.version import git_version
from mainstay.ops import machine
from mainstay.storage.database import SharedDatabase
from mainstay.storage.database.fence import fence_of
from mainstay.storage.identity import KEY as MARKER
from mainstay.storage.identity import StoreEmptied

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
_POSTGRESQL_PORT = 5432
_LOOK_EVERY_S = 0.2
_SHARED_SETTINGS = (
    "database_url",
    "object_store",
    "redis_url",
    "external_url",
    "trusted_proxies",
    "push_hold_seconds",
    "stale_reads_seconds",
)
"""Those that nodes of one cluster should have alike; `doctor` compares them."""


class Vitals:
    """Heart and watch of one data process; only the first has a heart."""

    def __init__(self, stores: Stores, *, phase: Callable[[], State]) -> None:
        is_first = from_environment("PROCESS") in (None, "data")
        self._stores = stores
        self._heart = heart_of(stores, phase=phase) if is_first else None
        self.peer_token = peer_token(secret_key(stores))
        self.watch = watch_of(stores, PeerQuestions(self.peer_token))

    def start(self) -> None:
        self.watch.start()
        if self._heart:
            self._heart.start()

    async def stop(self) -> None:
        """The heart beats until the other doors have finished, too: a node stops as a whole."""
        self.watch.stop()
        if self._heart:
            await asyncio.to_thread(self._until_alone)
            await asyncio.to_thread(self._heart.stop)

    def _until_alone(self) -> None:
        settings = self._stores.settings
        deadline_s = time.monotonic() + settings.drain_seconds
        while _others_finish(Layout(settings.data), settings) and time.monotonic() < deadline_s:
            time.sleep(_LOOK_EVERY_S)


def _others_finish(layout: Layout, settings: NodeSettings) -> bool:
    """Whether the node stops and other processes still have Git requests under way."""
    state = read_state(layout.state)
    others = {*data_names(settings.data_processes), "ssh"} - {"data"}
    return state is not None and state.phase == "draining" and not others.isdisjoint(state.processes)


def heart_of(stores: Stores, *, phase: Callable[[], State]) -> Heart:
    """The heart of this node; `phase` is asked at each beat."""
    fingerprints = _fingerprints(stores)
    versions = {"git": ".".join(map(str, git_version())), "python": platform.python_version()}

    def facts() -> Mapping[str, Any]:
        _note_machine(stores)
        https = stores.settings.https
        reached_at = {"https": advertised(https, stores.settings) if https else ""}
        own = {**_processes_and_disks(Layout(stores.settings.data)), "versions": versions, **reached_at}
        return {**own, **fingerprints, RELEASE_FACT: schema.CURRENT}

    return Heart(
        line=open_line(stores.settings.database_url, limit_s=heart.LINE_LIMIT_S),
        me=introduction(stores.settings),
        state=phase,
        facts=facts,
        drain=_ask_supervisor_to_stop,
        clock=SYSTEM,
        rests=fence_of(stores.settings.data).follows,
    )


def watch_of(stores: Stores, questions: PeerQuestions) -> Watch:
    """What looks at the dependencies for this process."""
    follows = fence_of(stores.settings.data).follows

    def look_at_objects() -> None:
        if stores.objects.size_bytes(MARKER) is None and not follows():
            raise StoreEmptied(f"object store: {MARKER} is missing")

    database = stores.database
    return Watch(
        line=open_line(stores.settings.database_url, limit_s=watch.LINE_LIMIT_S, may_follow=follows),
        look_at_objects=look_at_objects,
        me=node_id(stores.settings.data),
        questions=questions,
        clock=SYSTEM,
        cut_off=database.cut_off if isinstance(database, SharedDatabase) else _wait_on,
        is_alone=follows,
    )


def _wait_on(_because: str | None) -> None:
    """A database on this machine is nobody else's."""


def introduction(settings: NodeSettings) -> Introduction:
    """What this node says about itself when it comes."""
    offered = {
        "ssh": settings.ssh if "ssh" in settings.roles else None,
        "rpc": settings.rpc if "git" in settings.roles else None,
        "health": settings.health or settings.http,
    }
    reached_at = {name: advertised(at, settings) if at else "" for name, at in offered.items()}
    return Introduction(
        id=node_id(settings.data),
        name=settings.node_name or socket.gethostname(),
        http=advertised(settings.http, settings),
        roles=settings.roles,
        labels=settings.node_labels,
        version=__version__,
        **reached_at,
    )


def advertised(listened: Address, settings: NodeSettings) -> str:
    """Where others reach what listens at `listened`."""
    if settings.node_address:
        return str(Address(settings.node_address, listened.port))
    if listened.host not in _EVERYWHERE:
        return str(listened)
    return str(Address(_address_towards(settings.database_url), listened.port))


def _address_towards(database_url: str) -> str:
    """The address of this machine on the way to its database. Nothing is sent to find it out."""
    host, port = _database_host(database_url)
    try:
        family, kind, _, _, there = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as asking:
            asking.connect(there)
            return str(asking.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def _database_host(url: str) -> tuple[str, int]:
    """The first server that a URL names."""
    if not url.startswith("postgres"):
        return "127.0.0.1", _POSTGRESQL_PORT
    first = urlsplit(url).netloc.rpartition("@")[2].partition(",")[0]
    parts = urlsplit(f"//{first}")
    return parts.hostname or "127.0.0.1", parts.port or _POSTGRESQL_PORT


def _ask_supervisor_to_stop() -> None:
    os.kill(os.getppid(), signal.SIGTERM)


def _note_machine(stores: Stores) -> None:
    layout, identity = Layout(stores.settings.data), identity_of(stores)
    certificates = {"node": identity.certificate_file}
    if stores.settings.https:
        certificates["https"] = Path(stores.settings.tls_certificate)
    machine.note(directories={"data": layout.data, "cache": layout.cache}, certificates=certificates)


def _processes_and_disks(layout: Layout) -> dict[str, Any]:
    state = read_state(layout.state)
    processes = state.processes if state else {}
    return {
        "processes": {
            name: {"restarts": each.restarts, "ready": each.ready} for name, each in processes.items()
        },
        "disk_free_bytes": shutil.disk_usage(layout.data).free,
        "cache_free_bytes": shutil.disk_usage(layout.cache if layout.cache.exists() else layout.data).free,
    }


def _fingerprints(stores: Stores) -> dict[str, Any]:
    """Short marks by which nodes can be compared, and from which nothing can be learnt without the key."""
    key = secret_key(stores).encode()
    texts = as_text(stores.settings)
    master = stores.settings.data / "keys" / "master.key"
    return {
        "secrets": {
            "secret_key": _mark(key, b"secret key"),
            "master_key": _mark(key, master.read_bytes()) if master.exists() else "",
        },
        "settings": {name: _mark(key, texts[name].encode()) for name in _SHARED_SETTINGS},
    }


def _mark(key: bytes, content: bytes) -> str:
    return hmac.new(key, content, hashlib.sha256).hexdigest()[:12]
