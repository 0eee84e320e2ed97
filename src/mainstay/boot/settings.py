"""The settings of a node: flags before environment before file before defaults, checked once, all at once.

The file is TOML with the names below; `--config FILE` names it, else `mainstay.toml` in the data directory
is read when it is there. The environment has the same names in capitals after `MAINSTAY_`.

The chosen settings reach the child processes through the environment, and are kept in the data directory
for the other commands (`mainstay token create --data DIR`), which otherwise would have to be told again
where the database of a running node is.
"""

import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from mainstay.boot import parsing, steering
from mainstay.boot.layout import Layout
from mainstay.boot.moved import after_move
from mainstay.boot.parsing import Address, DoorName, Networks, Role
from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import LogFormat, Secret
from mainstay.foundation.settings import environment
from mainstay.ops.traffic.choice import Provider, Traffic, problems_on_disk
from mainstay.provision.socket_url import socket_url
from mainstay.provision.traffic.records import Record


class InvalidSettings(Invalid):
    """Every problem found, not only the first."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What one node needs to know to start."""

    data: Path
    """Everything this node keeps is in here."""
    http: Address
    ssh: Address
    database_url: str
    """`sqlite:///PATH`, `postgresql://…`, or `managed`: a PostgreSQL server that this node runs itself in its
    data directory, of which the URL is kept here."""
    object_store: str
    """`file:///PATH`, `s3://BUCKET/PREFIX`, …"""
    redis_url: str
    """Soft state that may be lost at any time; empty: none."""
    external_url: str
    """What people type, when it differs from `http`; empty: work it out from the request."""
    external_ssh: Address | None
    """HOST:PORT that people reach over SSH; none: the host of `external_url` and the port of `ssh`."""
    trusted_proxies: Networks
    """Peers whose `X-Forwarded-For` and `X-Request-Id` are believed."""
    monitoring_allowlist: Networks
    """Who may ask for health and metrics without a token."""
    never_banned: Networks
    """Whose failed sign-ins are not counted, such as a proxy that many people share."""
    health_token: Secret
    """Lets others ask for health and metrics; empty: nobody else."""
    drain_seconds: int
    """How long a stop waits for requests and pushes under way."""
    drain_notice_seconds: int
    """How long a stop goes on accepting while readiness says 503, so that balancers look away first.
    `auto`: 3 with PostgreSQL, where there may be other nodes to look at, else 0."""
    http_idle_seconds: int
    """Longest silence of a client in the middle of a request of Git over HTTP."""
    ssh_idle_seconds: int
    """The same over SSH, where a client that packs a large push says nothing for minutes."""
    data_processes: int
    """Processes that serve Git over HTTP; by default one per core, at most 4."""
    web_threads: int
    """Pages and API requests answered at the same time."""
    roles: frozenset[Role]
    """What this node does; all of it by default."""
    node_name: str
    """What people call this node; empty: the name of the host."""
    node_address: str
    """Where other nodes reach this one; empty: the address by which this host reaches the database."""
    node_labels: tuple[str, ...]
    """Placement labels: repositories that ask for one are kept warm here."""
    rpc: Address | None
    """Where other nodes reach the Git service of this one, by TLS; none: it is not offered."""
    sites: Address | None
    """Where other sites reach this one, by TLS with certificates of the built-in CA; none: there are none."""
    database_listen: Address | None
    """Where other sites reach the PostgreSQL of `database_url = managed`, by TLS with the same certificates;
    none: the host of `sites` and the port after it."""
    replica_readiness: Literal["serve-git", "passive"]
    """What `/-/readiness` says on a replica: 200, because it takes Git, or 503, for a balancer that stands
    before several sites and goes by readiness. `/status` is 503 on a replica either way."""
    replica_pages: Literal["off", "read-only"]
    """Whether a replica shows pages and answers the API as far as that only reads. It may be behind its
    primary; the header `X-Mainstay-Replica` says by how much."""
    cache_sync_url: str
    """Of a cache: told of each push that has come here whole, by the webhook `cache_sync`."""
    cache_sync_token: Secret
    """Shown there in the header `X-Gitlab-Token`."""
    https: Address | None
    """Where TLS is ended here, beside plain `http`; needs `tls_certificate` and `tls_key`."""
    tls_certificate: str
    """PEM file, the chain included; read again when it changes."""
    tls_key: str
    health: Address | None
    """A plain port for health and metrics only, which never expects a PROXY header."""
    proxy_protocol: Networks
    """Peers that begin each connection with a PROXY header (version 1 or 2); nobody else may send one."""
    proxy_protocol_on: frozenset[DoorName]
    """The doors where they do so: http, https, ssh; all of them by default."""
    push_hold_seconds: int
    """How long a push waits for a database that is away before it fails."""
    declared_ha: frozenset[str]
    """Parts that `doctor --ha` cannot look into and that you say survive a loss: `balancer`, `database` (a
    managed one that replicates out of sight), `object_store`. Shown as declared, never as verified."""
    stale_reads_seconds: int
    """How long fetches go on from what is known while the database is away; 0: not at all."""
    on_promote: Path | None
    """A program to run when this site has become the primary; see docs/run/traffic.md."""
    on_demote: Path | None
    """The same when it is the primary no more."""
    hook_seconds: int
    """How long such a program may take."""
    dns_provider: Provider
    """Who keeps the names that follow the primary: `rfc2136` (servers that take updates), `route53`."""
    dns_records: tuple[Record, ...]
    """`NAME TYPE TTL SITE=VALUE SITE=VALUE`, such as
    `git.example.org A 60 berlin=192.0.2.1 paris=198.51.100.1`; types A, AAAA and CNAME."""
    dns_server: Address | None
    """RFC 2136: HOST or HOST:PORT of the server that takes updates."""
    dns_zone: str
    """RFC 2136: the zone there, such as `example.org`."""
    dns_zone_id: str
    """Route 53: the id of the hosted zone."""
    dns_key_file: Path | None
    """File with mode 0600. RFC 2136: what `tsig-keygen NAME` prints. Route 53: keys as the AWS tools keep
    them; none: the usual places of AWS."""
    dns_endpoint: str
    """Route 53: the URL of another service that speaks its protocol."""
    dns_seconds: int
    """How long a promotion waits for its names to move, all together."""
    log_format: LogFormat
    log_level: str

    @property
    def database_is_managed(self) -> bool:
        return self.database_url == managed_url(self.data)


@dataclass(frozen=True, slots=True)
class _Option:
    """How one setting is read. The default may depend on the data directory."""

    read: Callable[[str], Any]
    default: str | Callable[[Path], str] = ""


_OPTIONS: Mapping[str, _Option] = {
    "http": _Option(parsing.address, "127.0.0.1:8080"),
    "ssh": _Option(parsing.address, "127.0.0.1:2222"),
    "database_url": _Option(parsing.database_url, lambda data: f"sqlite://{quote(str(data))}/mainstay.db"),
    "object_store": _Option(parsing.object_store, lambda data: str(data / "objects")),
    "redis_url": _Option(parsing.redis_url),
    "external_url": _Option(parsing.external_url),
    "external_ssh": _Option(parsing.address_or_none),
    "trusted_proxies": _Option(parsing.networks),
    "monitoring_allowlist": _Option(parsing.networks, "127.0.0.0/8,::1/128"),
    "never_banned": _Option(parsing.networks),
    "health_token": _Option(Secret),
    "drain_seconds": _Option(parsing.whole_number(0, 3600), "60"),
    "drain_notice_seconds": _Option(parsing.whole_number_or_auto(0, 600), "auto"),
    "http_idle_seconds": _Option(parsing.whole_number(1, 3600), "60"),
    "ssh_idle_seconds": _Option(parsing.whole_number(1, 3600), "600"),
    "data_processes": _Option(parsing.whole_number(1, 64), lambda _: str(min(4, os.cpu_count() or 1))),
    "web_threads": _Option(parsing.whole_number(1, 64), "4"),
    "roles": _Option(parsing.roles, "web,git,ssh,worker"),
    "node_name": _Option(parsing.node_name),
    "node_address": _Option(parsing.host),
    "node_labels": _Option(parsing.labels),
    "rpc": _Option(parsing.address_or_none),
    "sites": _Option(parsing.address_or_none),
    "database_listen": _Option(parsing.address_or_none),
    "replica_readiness": _Option(parsing.one_of("serve-git", "passive"), "serve-git"),
    "replica_pages": _Option(parsing.one_of("off", "read-only"), "off"),
    "cache_sync_url": _Option(parsing.external_url),
    "cache_sync_token": _Option(Secret),
    "https": _Option(parsing.address_or_none),
    "tls_certificate": _Option(str),
    "tls_key": _Option(str),
    "health": _Option(parsing.address_or_none),
    "proxy_protocol": _Option(parsing.networks),
    "proxy_protocol_on": _Option(parsing.doors, "http,https,ssh"),
    "push_hold_seconds": _Option(parsing.whole_number(0, 3600), "60"),
    "declared_ha": _Option(parsing.words("balancer", "database", "object_store")),
    "stale_reads_seconds": _Option(parsing.whole_number(0, 86_400), "0"),
    "on_promote": _Option(parsing.file_or_none),
    "on_demote": _Option(parsing.file_or_none),
    "hook_seconds": _Option(parsing.whole_number(1, 600), "30"),
    "dns_provider": _Option(parsing.one_of("none", "rfc2136", "route53"), "none"),
    "dns_records": _Option(parsing.dns_records),
    "dns_server": _Option(parsing.address_of_name_server),
    "dns_zone": _Option(parsing.host),
    "dns_zone_id": _Option(str),
    "dns_key_file": _Option(parsing.file_or_none),
    "dns_endpoint": _Option(parsing.external_url),
    "dns_seconds": _Option(parsing.whole_number(1, 300), "20"),
    "log_format": _Option(parsing.one_of("auto", "json", "text"), "auto"),
    "log_level": _Option(parsing.one_of("debug", "info", "warning", "error"), "info"),
}
OPTION_NAMES = tuple(_OPTIONS)
_NOTICE_S = 3


def load(flags: Mapping[str, str | None], *, config: Path | None = None) -> NodeSettings:
    """For `serve`: flags, environment, file, defaults. Raises `InvalidSettings`."""
    given = environment()
    data = _data_directory(flags.get("data"), given)
    values, problems = _read_file(_config_file(data, config, given))
    settings = assemble(data, [_known(flags), _known(given), values], problems=problems)
    if found := problems_on_disk(traffic_of(settings)):
        raise InvalidSettings(found)
    return settings


def traffic_of(settings: NodeSettings) -> Traffic:
    """How clients are led to the primary: for `ops.traffic`."""
    return steering.chosen({name: getattr(settings, name) for name in steering.NAMES})


def load_for_command(data: Path | None) -> NodeSettings:
    """For commands beside a node: as `serve`, but what the last `serve` chose goes before the file."""
    given = environment()
    where = _data_directory(str(data) if data else None, given)
    values, problems = _read_file(_config_file(where, None, given))
    return assemble(where, [_known(given), _remembered(where), values], problems=problems)


def load_for_child() -> NodeSettings:
    """For a process that `serve` started: the environment says it all, whatever files say by now."""
    given = environment()
    return assemble(_data_directory(None, given), [_known(given)])


def assemble(
    data: Path, layers: Sequence[Mapping[str, str]], *, problems: Sequence[str] = ()
) -> NodeSettings:
    """The first layer that names a setting decides. Raises `InvalidSettings` with every problem."""
    found = list(problems)
    values: dict[str, Any] = {}
    for name, option in _OPTIONS.items():
        try:
            values[name] = option.read(_text_of(name, option, data, layers))
        except Invalid as error:
            found.append(f"{name}: {error}")
    if values.get("https") and not (values.get("tls_certificate") and values.get("tls_key")):
        found.append("https: needs tls_certificate and tls_key, the PEM files of a certificate")
    found += steering.problems_of(values)
    if found:
        raise InvalidSettings(found)
    values["database_url"] = after_move(data, values["database_url"])
    is_managed = values["database_url"] == parsing.MANAGED
    if values["drain_notice_seconds"] is None:
        values["drain_notice_seconds"] = 0 if is_managed else _drain_notice_s(values["database_url"])
    if is_managed:
        values["database_url"] = managed_url(data)
    return NodeSettings(data=data, **values)


def managed_url(data: Path) -> str:
    """Where the server of `database_url = managed` answers."""
    return socket_url(Layout(data).database_sockets)


def _drain_notice_s(database_url: str) -> int:
    """Longer than a balancer usually waits between two checks; where there is none, Ctrl-C is at once."""
    return 0 if database_url.startswith("sqlite") else _NOTICE_S


def as_text(settings: NodeSettings) -> dict[str, str]:
    """The settings as `assemble` reads them, secrets included: for children and for `remember` only."""
    return {name: parsing.text_of(getattr(settings, name)) for name in OPTION_NAMES}


def remember(settings: NodeSettings) -> None:
    """Keep what `serve` chose for the commands that run beside it. Owner-only: URLs hold passwords."""
    file = _memory_of(settings.data)
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump(_memorable(settings), out)
    fresh.replace(file)


def _memorable(settings: NodeSettings) -> dict[str, str]:
    """Without what commands do not need, and so that it holds wherever the data directory is moved."""
    managed = {"database_url": parsing.MANAGED} if settings.database_is_managed else {}
    secrets = {name: "" for name in OPTION_NAMES if isinstance(getattr(settings, name), Secret)}
    return {**as_text(settings), **managed, **secrets, "data": str(settings.data)}


def _remembered(data: Path) -> dict[str, str]:
    """What the last `serve` on this directory chose; nothing when there was none.

    Of a directory that was moved or copied since, the database and the objects in it are meant, not those at
    the place where it was: they may still be there, and be somebody else's.
    """
    try:
        kept = json.loads(_memory_of(data).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidSettings(
            [f"cannot read {_memory_of(data)}: {error}; start `mainstay serve` again"]
        ) from error
    before, now = _usual_places(Path(kept.get("data", data))), _usual_places(data)
    return _known(
        {name: now[name] if value == before.get(name) else value for name, value in kept.items() if value}
    )


def _usual_places(data: Path) -> dict[str, str]:
    """What depends on the data directory, unless somebody chose otherwise."""
    return {
        name: parsing.text_of(option.read(option.default(data)))
        for name, option in _OPTIONS.items()
        if not isinstance(option.default, str)
    }


def _memory_of(data: Path) -> Path:
    return data / "run" / "settings.json"


def _data_directory(flag: str | None, given: Mapping[str, str]) -> Path:
    return Path(flag or given.get("DATA") or "data").absolute()


def _config_file(data: Path, flag: Path | None, given: Mapping[str, str]) -> Path | None:
    """The file to read. One that was named must exist; the one in the data directory need not."""
    if flag or "CONFIG" in given:
        return flag or Path(given["CONFIG"])
    usual = data / "mainstay.toml"
    return usual if usual.exists() else None


def _read_file(file: Path | None) -> tuple[dict[str, str], list[str]]:
    """What the file says, and what is wrong with it."""
    if file is None:
        return {}, []
    try:
        content = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return {}, [f"cannot read {file}: {error}"]
    unknown = [f"{file}: unknown setting {name!r}" for name in content if name not in _OPTIONS]
    return _known({name: _flat(value) for name, value in content.items()}), unknown


def _flat(value: object) -> str:
    """TOML has numbers and lists; settings are read from text, in which a list has commas."""
    return ",".join(str(part) for part in value) if isinstance(value, list) else str(value)


def _known(given: Mapping[str, str | None]) -> dict[str, str]:
    """Our settings among all that was given. The environment also holds variables of other rooms."""
    lowered = {name.lower(): value for name, value in given.items() if value is not None}
    return {name: lowered[name] for name in OPTION_NAMES if name in lowered}


def _text_of(name: str, option: _Option, data: Path, layers: Sequence[Mapping[str, str]]) -> str:
    for layer in layers:
        if name in layer:
            return layer[name]
    return option.default if isinstance(option.default, str) else option.default(data)
