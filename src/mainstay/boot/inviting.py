"""What a running node gives to a machine that joins, and when there is nothing that could be joined."""

from collections.abc import Mapping
from pathlib import Path

from mainstay.boot import steering
from mainstay.boot.membership import secrets_of
from mainstay.boot.settings import OPTION_NAMES, NodeSettings, as_text, assemble
from mainstay.boot.stores import Stores
from mainstay.cluster.joining import Bundle, MadeToken, make_token, redeem
from mainstay.doors.joining.app import Admit, JoiningDoor
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.ops import settings_store
from mainstay.storage.objects.location import DirectoryLocation, MemoryLocation, parse_location

LOCAL = (
    "http",
    "ssh",
    "rpc",
    "sites",
    "database_listen",
    "replica_pages",
    "cache_sync_url",
    "cache_sync_token",
    "https",
    "health",
    "tls_certificate",
    "tls_key",
    "roles",
    "node_name",
    "node_address",
    "node_labels",
    "data_processes",
    "web_threads",
    "log_format",
    "log_level",
    *steering.NAMES,
)
"""Settings of one node. All others are the same on every node and go with the bundle."""
_ALWAYS_SAID = ("database_url", "object_store")


class CannotBeJoined(Conflict):
    """What this node stands on cannot be reached by another machine."""


def check_joinable(settings: NodeSettings) -> None:
    """Raises `CannotBeJoined` with the way out."""
    if settings.database_url.startswith("sqlite:"):
        raise CannotBeJoined(
            "the database is SQLite, which lives on one machine: move to PostgreSQL (docs/run/joining.md),"
            " then machines can join"
        )
    if settings.database_is_managed:
        raise CannotBeJoined(
            "the database is run by this node, and other nodes do not reach it: add a replica instead"
            " (docs/run/managed-postgresql.md), or move to a PostgreSQL that all nodes reach"
        )
    location = parse_location(settings.object_store)
    if isinstance(location, MemoryLocation) or (
        isinstance(location, DirectoryLocation) and _is_inside(location.path, settings.data)
    ):
        raise CannotBeJoined(
            f"the objects are in {settings.object_store}, which other machines do not see: move to S3 or to a"
            " directory that all nodes mount (docs/run/joining.md), then machines can join"
        )


def new_token(stores: Stores, *, by: str, ttl_ms: int) -> MadeToken:
    """A join token for one machine. Raises `CannotBeJoined`."""
    check_joinable(stores.settings)
    return make_token(stores.database, secrets_of(stores), by=by, ttl_ms=ttl_ms)


def joining_door(stores: Stores, admit: Admit) -> JoiningDoor:
    """The door at which machines show their tokens; `admit` lets sites in."""

    def let_in(token_id: str, proof: str, address: str) -> str:
        bundle = _bundle(stores)
        secrets = secrets_of(stores)
        return redeem(stores.database, secrets, bundle, token_id=token_id, proof=proof, at=address)

    return JoiningDoor(let_in, admit=admit, clock=SYSTEM)


def shared_settings(settings: NodeSettings) -> Mapping[str, str]:
    """What all nodes have in common, as far as it is not the default anyway."""
    usual = as_text(assemble(settings.data, []))
    ours = as_text(settings)
    return {
        name: ours[name]
        for name in OPTION_NAMES
        if name not in LOCAL and (name in _ALWAYS_SAID or ours[name] != usual[name])
    }


def _bundle(stores: Stores) -> Bundle:
    check_joinable(stores.settings)
    instance = settings_store.read(stores.database, settings_store.INSTANCE_ID)
    if instance is None:
        raise Unavailable("the first start of this node has not come to its end")
    return Bundle(instance, secrets_of(stores).refresh(), shared_settings(stores.settings))


def _is_inside(path: Path, directory: Path) -> bool:
    return path.resolve().is_relative_to(directory.resolve())
