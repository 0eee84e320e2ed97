"""The text of PostgreSQL's configuration, made from what is wished and what the machine is. Changes nothing.

Sizes that a standby must have at least as large as its primary are the same on every machine.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from mainstay.foundation.clock import iso8601
from mainstay.foundation.errors import Unavailable
from mainstay.provision.postgresql.places import Places
from mainstay.provision.postgresql.wishes import Upstream, Wishes, slot_of
from mainstay.provision.socket_url import OWNER, SOCKET_PORT

SUPERUSER: Final = "postgres"
REPLICATION: Final = "replication"

SAME_EVERYWHERE: Final[Mapping[str, int]] = {
    "max_connections": 300,
    "max_worker_processes": 16,
    "max_wal_senders": 200,
    "max_prepared_transactions": 0,
    "max_locks_per_transaction": 128,
}
"""PostgreSQL refuses a standby that has less of these than its primary."""
_CONTROL_NAMES = {
    "max_locks_per_transaction": "max_locks_per_xact setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
}
_MIB = 1024**2
_GIB = 1024**3
_CONNECT_S_MAX = 5


class HostUnknown(Unavailable):
    """The name of the primary has no address now."""


def memory_bytes() -> int:
    """Of the machine, or of the control group that we are limited to."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, ValueError):  # no limit, or no control groups
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(sizes)


def configuration(
    places: Places,
    wishes: Wishes,
    *,
    sockets: Path,
    memory: int,
    least: Mapping[str, int] | None = None,
) -> str:
    """The whole of `server.conf`. `least`: sizes of the primary that a copy came from."""
    listen = wishes.listen
    values: dict[str, str | int] = {
        "data_directory": str(places.data),
        "hba_file": str(places.rules),
        "ident_file": str(places.identities),
        "listen_addresses": listen.host if listen else "",
        "port": listen.port if listen else SOCKET_PORT,
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "password_encryption": "scram-sha-256",
        **{name: max(size, (least or {}).get(name, 0)) for name, size in SAME_EVERYWHERE.items()},
        **_memory(memory),
        **_durability(wishes),
        **_patience(),
        **_logging(places),
        **(_tls(places) if listen else {}),
        **_following(places, wishes),
    }
    lines = [f"{name} = {quoted(value)}" for name, value in values.items()]
    # Asked here, because a missing file is told to the log by each process at each reload.
    has_own = places.own_configuration.exists()
    own = [f"include = {quoted(str(places.own_configuration))}"] if has_own else []
    head = "# Written at every start; your own lines go into local.conf beside this file."
    return "\n".join([head, *lines, *own, ""])


def _memory(size: int) -> dict[str, str | int]:
    """A modest part of it: the processes of the node and Git need the rest."""
    return {
        "shared_buffers": _kilobytes(_between(32 * _MIB, size // 16, 2 * _GIB)),
        "effective_cache_size": _kilobytes(_between(64 * _MIB, size // 2, 64 * _GIB)),
        "maintenance_work_mem": _kilobytes(_between(32 * _MIB, size // 32, 512 * _MIB)),
        "work_mem": _kilobytes(_between(4 * _MIB, size // 1024, 32 * _MIB)),
        "dynamic_shared_memory_type": "posix",
    }


def _durability(wishes: Wishes) -> dict[str, str | int]:
    return {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "synchronous_standby_names": standby_names(wishes.synchronous),
        "wal_level": "replica",
        "wal_log_hints": "on",
        "wal_compression": "on",
        "max_wal_size": "1GB",
        "wal_keep_size": "256MB",
        "max_replication_slots": SAME_EVERYWHERE["max_wal_senders"],
        "max_slot_wal_keep_size": _kilobytes(wishes.wal_kept_bytes),
        "hot_standby": "on",
        "hot_standby_feedback": "off",
        "max_standby_streaming_delay": "5s",
        "max_standby_archive_delay": "5s",
    }


def _patience() -> dict[str, str | int]:
    return {
        "wal_sender_timeout": "10s",
        "wal_receiver_timeout": "10s",
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": "1s",
        "checkpoint_timeout": "5min",
        "tcp_keepalives_idle": 10,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": "20s",
        "authentication_timeout": "10s",
        "client_connection_check_interval": "5s",
        "idle_in_transaction_session_timeout": "10min",
    }


def _logging(places: Places) -> dict[str, str | int]:
    """A file for each day of the week, so that it never grows for ever. Parameters are not logged."""
    return {
        "logging_collector": "on",
        "log_directory": str(places.logs),
        "log_filename": "server-%a.log",
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
        "log_rotation_size": 0,
        "log_file_mode": "0600",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_timezone": "UTC",
        "log_min_error_statement": "panic",
        "timezone": "UTC",
        "lc_messages": "C",
    }


def _tls(places: Places) -> dict[str, str | int]:
    return {
        "ssl": "on",
        "ssl_cert_file": str(places.certificate),
        "ssl_key_file": str(places.key),
        "ssl_ca_file": str(places.authority),
        "ssl_min_protocol_version": "TLSv1.2",
    }


def _following(places: Places, wishes: Wishes) -> dict[str, str | int]:
    """PostgreSQL looks at these only where there is a `standby.signal`."""
    if wishes.upstream is None:
        return {}
    values: dict[str, str | int] = {
        "primary_conninfo": conninfo(places, wishes.upstream),
        "primary_slot_name": slot_of(wishes.upstream.site),
        "recovery_target_timeline": "latest",
    }
    if wishes.replay_until_ms is None:
        return {**values, "recovery_min_apply_delay": f"{wishes.delay_s}s"}
    return {
        **values,
        "recovery_target_time": iso8601(wishes.replay_until_ms).removesuffix("Z") + "+00",
        "recovery_target_action": "pause",
    }


def conninfo(places: Places, upstream: Upstream, **more: str) -> str:
    """How this server, or one of its tools, reaches the primary."""
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - a driver that only its users pay for

    where = {"host": upstream.host, "sslmode": "verify-ca"}
    if upstream.name:
        where = {"host": upstream.name, "hostaddr": _address_of(upstream.host), "sslmode": "verify-full"}
    return make_conninfo(
        "",
        **where,
        port=upstream.port,
        user=REPLICATION,
        application_name=upstream.site,
        sslcert=str(places.certificate),
        sslkey=str(places.key),
        sslrootcert=str(places.authority),
        connect_timeout=_CONNECT_S_MAX,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=20_000,
        **more,
    )


def standby_names(sites: Sequence[str]) -> str:
    """`FIRST 2 ("a", "b")`: each commit waits for all of them. Empty: for nobody."""
    if not sites:
        return ""
    named = ", ".join(f'"{site}"' for site in sites)
    return f"FIRST {len(sites)} ({named})"


def rules(wishes: Wishes) -> str:
    """Who may connect how: users of this machine by the socket, sites by their certificates. No passwords."""
    lines = [f"local all {SUPERUSER},{OWNER} peer map=mainstay"]
    if wishes.listen and wishes.sites:
        # The database is for pg_rewind, which reads files by a plain connection.
        lines += [
            f"hostssl {which} {REPLICATION} all cert map=sites" for which in ("replication", "postgres")
        ]
    return "\n".join([*lines, ""])


def identities(wishes: Wishes, *, users: Sequence[str]) -> str:
    """Which user of this machine, and which certificate, is which role."""
    here = [f'mainstay "{user}" {role}' for user in users for role in (SUPERUSER, OWNER)]
    there = [f'sites "{site}" {REPLICATION}' for site in wishes.sites]
    return "\n".join([*here, *there, ""])


def sizes_of_primary(control: Mapping[str, str]) -> dict[str, int]:
    """From what `pg_controldata` says: the sizes that a standby of this history needs."""
    found = {}
    for name in SAME_EVERYWHERE:
        said = control.get(_CONTROL_NAMES.get(name, f"{name} setting"), "")
        if said.isdigit():
            found[name] = int(said)
    return found


def quoted(value: str | int) -> str:
    return (
        str(value) if isinstance(value, int) else "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    )


def _kilobytes(size: int) -> str:
    return f"{size // 1024}kB"


def _between(least: int, size: int, most: int) -> int:
    return max(least, min(size, most))


def _address_of(host: str) -> str:
    """To connect to one thing and check the certificate against another, libpq needs an address."""
    with suppress(ValueError):
        return str(ip_address(host))
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise HostUnknown(f"{host}: {error.strerror or error}") from error
