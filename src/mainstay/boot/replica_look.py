"""Look at this machine and at the primary, before anything is changed: what `ops.sites.preflight` judges."""

import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mainstay.boot import joining
from mainstay.boot.parsing import Address
from mainstay.boot.replicating import LOOK, database_listen
from mainstay.boot.settings import NodeSettings
from mainstay.boot.state import read_state
from mainstay.cluster import schema
from mainstay.cluster.belonging import remembered_instance
from mainstay.cluster.joining import JoinToken, unseal_facts
from mainstay.foundation.clock import SYSTEM
from mainstay.ops.sites.memory import Memory
from mainstay.ops.sites.preflight import Directory, Machine, PrimaryFacts, facts_in
from mainstay.provision.postgresql.programs import installed

_ASKED: Final = 4
"""Each answer has some hundred KiB, by which the line is measured."""
_CONNECT_S_MAX: Final = 5.0
_KEPT_APART: Final = ("http", "ssh", "https", "health", "rpc", "sites")
_OURS: Final = "adding.json"


@dataclass(frozen=True, slots=True)
class Look:
    """Both sides, as they were."""

    machine: Machine
    primary: PrimaryFacts


def look(url: str, token: JoinToken, settings: NodeSettings) -> Look:
    """Ask the primary by the token, which stays good, and look around here. Raises `NotLetIn`."""
    address = joining.join_url(url)
    sizes, began_s = 0, SYSTEM.monotonic_s()
    for _ in range(_ASKED):
        asked_ms = SYSTEM.now_ms()
        sealed = joining.ask(address, token, site={LOOK: True})
        answered_ms = SYSTEM.now_ms()
        sizes += len(sealed)
    took_s = max(0.001, SYSTEM.monotonic_s() - began_s)
    primary = facts_in(_texts(unseal_facts(token, sealed).get("facts")))
    directory, because = directory_state(settings.data)
    machine = Machine(
        postgresql_majors=tuple(installed()),
        free_bytes=free_bytes(settings.data),
        clock_off_ms=clock_off_ms(primary.now_ms, asked_ms=asked_ms, answered_ms=answered_ms),
        ports_taken={} if _is_running(settings) else ports_taken(settings),
        directory=directory,
        directory_says=because,
        schema_current=schema.PROGRAM.current,
        schema_floor=schema.PROGRAM.floor,
        bytes_per_s=sizes / took_s,
        database_reached=_not_reached(primary.database_address),
        data=str(settings.data),
    )
    return Look(machine, primary)


def clock_off_ms(theirs_ms: int, *, asked_ms: int, answered_ms: int) -> int:
    """How far our clock is ahead, at least: the answer was made at some moment in between."""
    if theirs_ms < asked_ms:
        return asked_ms - theirs_ms
    return min(0, answered_ms - theirs_ms)


def free_bytes(data: Path) -> int:
    """On the disk of the directory, or of the first one above that exists."""
    place = next(each for each in (data, *data.parents) if each.exists())
    return shutil.disk_usage(place).free


def directory_state(data: Path) -> tuple[Directory, str]:
    """Whether the directory may become a replica's."""
    if (data / "sites" / _OURS).exists() and Memory(data).adding() is not None:
        return "ours", ""
    if not data.exists() or not any(data.iterdir()):
        return "empty", ""
    for name, what in {
        "mainstay.db": "it has a SQLite database",
        "objects": "it has objects of a node",
        "postgresql": "it has a PostgreSQL database",
    }.items():
        if (data / name).exists():
            return "occupied", what
    instance = remembered_instance(data)
    return ("occupied", f"it belongs to instance {instance}") if instance else ("empty", "")


def ports_taken(settings: NodeSettings) -> Mapping[str, str]:
    """The settings whose address nobody can listen on now, with the reason."""
    wanted = {name: getattr(settings, name) for name in _KEPT_APART}
    if settings.sites is not None:
        wanted["database_listen"] = database_listen(settings)
    return {
        name: why
        for name, address in wanted.items()
        if isinstance(address, Address) and address.port and (why := _taken(address))
    }


def _taken(address: Address) -> str:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((address.host, address.port))
    except OSError as error:
        return f"cannot listen on {address}: {error.strerror or error}"
    return ""


def _not_reached(address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S_MAX).close()
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _is_running(settings: NodeSettings) -> bool:
    """A repair beside the running service: the ports are its own."""
    return read_state(settings.data / "run" / "state.json") is not None


def _texts(facts: object) -> dict[str, str]:
    return {str(name): str(text) for name, text in facts.items()} if isinstance(facts, dict) else {}
