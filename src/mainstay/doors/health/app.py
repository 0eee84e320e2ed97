"""The door for machines that watch: probes, balancers, Prometheus.

| path | answer |
|---|---|
| `/-/health` | the process answers; touches nothing |
| `/-/readiness[?all=1]` | may this node take traffic; with `all`, are its dependencies well |
| `/-/liveness` | does the event loop turn |
| `/-/metrics` | Prometheus |
| `/-/dependencies?of=database` (or `objects`) | does it answer this node now; for other nodes |
| `/health_check[/database|/cache|/migrations|/geo][.json]` | for people and monitors, not for balancers |
| `/status` | does this node serve people; told to anybody. 503 on a replica: follow this to the primary |

All but `/status` answer only the allowlist or the health token; others see an empty 404. The address is
judged after the trusted proxies. None of them is rate limited, logged in, or told to wait behind anybody.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network
from typing import Any
from urllib.parse import parse_qs

from mainstay.doors.health import decisions
from mainstay.doors.health.checks import (
    ALL,
    Dependencies,
    Look,
    database_check,
    schema_check,
    soft_state_check,
)
from mainstay.doors.health.decisions import NOT_FOUND, Answer, Check, NodeView
from mainstay.foundation import metrics
from mainstay.foundation.logs import Secret

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_HEALTH_CHECK = re.compile(r"/health_check(?:/(database|cache|migrations|geo))?(\.json)?/?")
_DEPENDENCIES = "/-/dependencies"
_PATHS = frozenset({"/-/health", "/-/readiness", "/-/liveness", "/-/metrics", "/status", _DEPENDENCIES})
_CHECK_S_MAX = 5.0
NO_TOKEN = Secret("")
"""Opens nothing."""
_LOOKS: dict[str, Sequence[Look]] = {
    "": ALL,
    "database": (database_check,),
    "cache": (soft_state_check,),
    "migrations": (schema_check,),
    "geo": (),
}
"""By part of `/health_check`. Soft state is no part of the whole: without it nothing fails."""


def claims(scope: Scope) -> bool:
    path = scope["path"]
    return path in _PATHS or _HEALTH_CHECK.fullmatch(path) is not None


class HealthDoor:
    """An ASGI application for the paths that `claims` says."""

    def __init__(
        self,
        *,
        dependencies: Dependencies,
        view: Callable[[], NodeView],
        allowlist: Sequence[IPv4Network | IPv6Network],
        token: Secret,
        before_metrics: Callable[[], None] = lambda: None,
        is_well: Callable[[str], bool] = lambda _dependency: False,
        peer_token: Secret = NO_TOKEN,
        maintenance: Callable[[], str] = lambda: "off",
        passive_is_ready: bool = True,
    ) -> None:
        """`is_well` says whether a dependency answers now; `peer_token` opens only that question.

        `maintenance` names the mode: `off`, `read-only` or `full`. `passive_is_ready`: a replica is.
        """
        self._dependencies = dependencies
        self._view = view
        self._allowlist = allowlist
        self._token = token
        self._before_metrics = before_metrics
        self._passive_is_ready = passive_is_ready
        self._is_well = is_well
        self._peer_token = peer_token
        self._maintenance = maintenance
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="health")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - no body is read
        answer = await self._answer(scope)
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope) -> Answer:
        if scope["method"] not in ("GET", "HEAD"):
            return NOT_FOUND
        if scope["path"] == "/status":
            return decisions.node_status(self._view(), maintenance=self._maintenance())
        if not self._may_ask(scope):
            return NOT_FOUND
        return await self._tell(scope)

    def _may_ask(self, scope: Scope) -> bool:
        header: bytes = dict(scope["headers"]).get(b"token", b"")
        given = header.decode("latin-1") or _parameter(scope, b"token")
        if scope["path"] == _DEPENDENCIES and decisions.may_ask(
            "", given, allowlist=(), token=self._peer_token
        ):
            return True
        return decisions.may_ask(scope["client"][0], given, allowlist=self._allowlist, token=self._token)

    async def _tell(self, scope: Scope) -> Answer:
        path, with_all = scope["path"], _flag(scope, b"all")
        match path:
            case "/-/dependencies":
                of = _parameter(scope, b"of")
                return decisions.dependency(well=await self._in_thread(lambda: self._is_well(of)))
            case "/-/health":
                return decisions.health()
            case "/-/readiness":
                checks = await self._look(_LOOKS[""]) if with_all else []
                return decisions.readiness(
                    self._view(),
                    checks,
                    maintenance=self._maintenance(),
                    passive_is_ready=self._passive_is_ready,
                )
            case "/-/liveness":
                return decisions.liveness(self._view())
            case "/-/metrics":
                self._before_metrics()
                text = await self._in_thread(metrics.exposition)
                return Answer(200, text, metrics.CONTENT_TYPE)
        part = _HEALTH_CHECK.fullmatch(path)
        assert part is not None, "claims let it in"
        checks = await self._look(_LOOKS[part[1] or ""])
        return decisions.comprehensive(checks, as_json=part[2] is not None)

    async def _look(self, looks: Sequence[Look]) -> list[Check]:
        return list(await asyncio.gather(*(self._look_once(look) for look in looks)))

    async def _look_once(self, look: Look) -> Check:
        """A dependency that hangs is as good as away; the thread ends when its own limits do."""
        try:
            return await asyncio.wait_for(
                self._in_thread(lambda: look(self._dependencies)), timeout=_CHECK_S_MAX
            )
        except TimeoutError:
            name = look.__name__.replace("database", "db")
            return Check(name=name, problem=f"no answer within {_CHECK_S_MAX:.0f} s")

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
    """For a port that serves this door only: whatever else is asked for is not there."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def _parameter(scope: Scope, name: bytes) -> str:
    values = parse_qs(scope["query_string"], max_num_fields=20).get(name, [b""])
    return bytes(values[-1]).decode("latin-1")


def _flag(scope: Scope, name: bytes) -> bool:
    return _parameter(scope, name) not in ("", "0", "false")
