"""Redis or Valkey, where the operator has one: one server, behind Sentinel, or a Redis Cluster.

Soft state only. What is in there may be lost, old or somebody else's at any moment, so nothing is kept in it
that is not in the database as well, and nothing ever waits for it:

- every step on a connection ends after 100 ms, and none is tried twice;
- after a failure nobody asks again for one second, then two, then five (`Breaker`).

Not here: what it is good for (`cluster.hints`).
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import Secret

if TYPE_CHECKING:
    from redis import Redis
    from redis.cluster import RedisCluster

Kind = Literal["single", "sentinel", "cluster", "unix"]

CALL_S_MAX = 0.1
_PERSON_S_MAX = 2.0
_KINDS: dict[str, Kind] = {
    "redis": "single",
    "rediss": "single",
    "unix": "unix",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_PORT, _SENTINEL_PORT, _PORT_MAX = 6379, 26379, 65_535
_OPTIONS = frozenset({"ssl_ca_certs", "sentinel_password", "db"})
_EXAMPLES = (
    "redis://HOST:PORT/NUMBER, unix:///PATH, redis+sentinel://HOST,HOST2:26379/SERVICE/NUMBER or"
    " redis+cluster://HOST,HOST2, with rediss for TLS"
)
_PAUSES_S = (1.0, 2.0, 5.0)


class BadSoftStateUrl(Invalid):
    """The address of Redis cannot be read; the message never holds the address, which may hold a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where soft state is, and how to get in."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    """Servers, or Sentinels."""
    path: str = ""
    service: str = ""
    """What the Sentinels call the server."""
    database: int = 0
    username: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    sentinel_password: Secret = field(default_factory=lambda: Secret(""))
    tls: bool = False
    ca_file: str = ""
    """PEM file of the authority to trust; empty: those of the machine."""


def location_of(url: str) -> Location:
    """Read an address. Raises `BadSoftStateUrl`."""
    parts = urlsplit(url)
    kind = _KINDS.get(parts.scheme)
    if kind is None:
        raise BadSoftStateUrl(f"{parts.scheme or 'this'!r} is no kind of Redis: write {_EXAMPLES}")
    options = _options(parts)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    service, number = _service_and_number(kind, parts.path, options)
    return Location(
        kind=kind,
        hosts=_hosts(hosts, kind),
        path=unquote(parts.path) if kind == "unix" else "",
        service=service,
        database=number,
        username=unquote(username),
        password=Secret(unquote(password)),
        sentinel_password=Secret(options.get("sentinel_password", "")),
        tls=parts.scheme.startswith("rediss"),
        ca_file=options.get("ssl_ca_certs", ""),
    )


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - _OPTIONS):
        raise BadSoftStateUrl(f"unknown option {unknown[0]!r}: there are {', '.join(sorted(_OPTIONS))}")
    return options


def _hosts(text: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    if kind == "unix":
        if text:
            raise BadSoftStateUrl("write unix:///ABSOLUTE/PATH (three slashes)")
        return ()
    port = _SENTINEL_PORT if kind == "sentinel" else _PORT
    found = tuple(_host(each, port) for each in text.split(",") if each)
    if not found:
        raise BadSoftStateUrl(f"it names no host: write {_EXAMPLES}")
    if kind == "single" and len(found) > 1:
        raise BadSoftStateUrl("several hosts are redis+sentinel:// or redis+cluster://")
    return found


def _host(text: str, port: int) -> tuple[str, int]:
    """`HOST`, `HOST:PORT`, `[ADDRESS]:PORT`."""
    before, colon, after = text.rpartition(":")
    host, number = (before, after) if colon and not after.endswith("]") else (text, str(port))
    if not number.isascii() or not number.isdigit() or not 0 < int(number) <= _PORT_MAX:
        raise BadSoftStateUrl(f"{number!r} is no port")
    if not host.strip("[]"):
        raise BadSoftStateUrl("a port without a host")
    return host.strip("[]"), int(number)


def _service_and_number(kind: Kind, path: str, options: dict[str, str]) -> tuple[str, int]:
    if kind == "unix":
        if not path.startswith("/") or path == "/":
            raise BadSoftStateUrl("write unix:///ABSOLUTE/PATH (three slashes)")
        return "", _number(options.get("db", ""))
    words = [unquote(word) for word in path.split("/") if word]
    if kind == "sentinel":
        if not 1 <= len(words) <= 2:  # noqa: PLR2004 - the service, and maybe a number
            raise BadSoftStateUrl("with Sentinel the path is /SERVICE or /SERVICE/NUMBER")
        return words[0], _number("".join(words[1:]) or options.get("db", ""))
    if len(words) > 1 or (kind == "cluster" and _number("".join(words))):
        raise BadSoftStateUrl("the path is one number at most, and a Redis Cluster has only 0")
    return "", _number("".join(words) or options.get("db", ""))


def _number(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise BadSoftStateUrl(f"{text!r} is not the number of a database")
    return int(text or "0")


def connect(location: Location, *, call_s_max: float = CALL_S_MAX) -> "Redis | RedisCluster":
    """A client; it connects when it is used, except that of a Redis Cluster, which looks around first.

    Raises what the client raises: `redis.RedisError`, `OSError`.
    """
    from redis import Redis, Sentinel  # noqa: PLC0415 - most nodes have no Redis, and it costs half a second
    from redis.backoff import NoBackoff  # noqa: PLC0415 - same
    from redis.cluster import ClusterNode, RedisCluster  # noqa: PLC0415 - same
    from redis.retry import Retry  # noqa: PLC0415 - same

    limits: dict[str, Any] = {
        "socket_timeout": call_s_max,
        "socket_connect_timeout": call_s_max,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": location.ca_file or None} if location.tls else {}
    login: dict[str, Any] = {
        "username": location.username or None,
        "password": location.password.reveal() or None,
    }
    match location.kind:
        case "unix":
            return Redis(unix_socket_path=location.path, db=location.database, **login, **limits)
        case "cluster":
            nodes = [ClusterNode(host, port) for host, port in location.hosts]  # type: ignore[no-untyped-call]
            return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **login, **tls, **limits)
        case "sentinel":
            own: dict[str, Any] = {"password": location.sentinel_password.reveal() or None, **tls, **limits}
            sentinel = Sentinel(list(location.hosts), sentinel_kwargs=own)  # type: ignore[no-untyped-call]
            server: dict[str, Any] = {"db": location.database, **login, **tls, **limits}
            client: Redis = sentinel.master_for(location.service, **server)  # type: ignore[no-untyped-call]
            return client
        case "single":
            host, port = location.hosts[0]
            return Redis(host=host, port=port, db=location.database, **login, **tls, **limits)


def trouble() -> tuple[type[Exception], ...]:
    """What a client of Redis raises. A name that cannot be looked up may be a `ValueError`."""
    from redis import RedisError  # noqa: PLC0415 - see `connect`

    return (RedisError, OSError, ValueError)


def problem_of(location: Location) -> str:
    """Ask once, for a person who waits: why Redis is not there; empty when it is."""
    try:
        client = connect(location, call_s_max=_PERSON_S_MAX)
        try:
            client.ping()
        finally:
            client.close()
    except trouble() as error:
        return sentence_of(error)
    return ""


def sentence_of(error: Exception) -> str:
    """One line that says what to look at; clients of Redis wrap the cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message}): see ssl_ca_certs in redis_url"
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split()) or type(error).__name__


class Breaker:
    """Whether to ask at all. Not for several threads at once."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._failures = 0
        self._open_until_s = float("-inf")

    @property
    def left_s(self) -> float:
        """How long nobody should ask; 0 when asking is fine."""
        return max(0.0, self._open_until_s - self._monotonic_s())

    def failed(self) -> None:
        pause_s = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1
        self._open_until_s = self._monotonic_s() + pause_s

    def went_well(self) -> None:
        self._failures = 0
        self._open_until_s = float("-inf")
