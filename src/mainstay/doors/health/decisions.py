"""Decide who may ask and what the answer is. Pure: what was seen in, a status and a body out.

Paths, bodies and statuses are those that operators' load balancers already know from GitLab
(`/-/health`, `/-/readiness`, `/-/liveness`, `/health_check`) and GitHub Enterprise Server (`/status`).
"""

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from typing import Any

from mainstay.foundation.logs import Secret

BRAND = "Mainstay"
_LAG_S_MAX = 5.0
_BEAT_S_MAX = 15.0
_SKEW_MS_MAX = 30_000
_LEASE_OVER_S_MAX = 2.0
"""Shorter than it takes until another may have one: `cluster.witness.terms`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


NOT_FOUND = Answer(404)
"""Empty, so that a stranger cannot tell it from a path that does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """What this node knows of itself without asking anybody."""

    phase: str
    """`starting`, `ready` or `draining`."""
    loop_lag_s: float = 0.0
    beat_age_s: float = 0.0
    problem: str = ""
    """Why it should take no traffic although it runs, such as a database that answers all nodes but it."""
    role: str = "single"
    """Of the site: `single` (there are no others), `active`, `passive` or `superseded`."""
    primary: str = ""
    """Where the primary is, when it is another site."""
    lag_s: float | None = 0.0
    """How far a passive one is behind; None when it cannot tell."""
    lease_over_s: float = 0.0
    """Since when an active one has been without the lease by which it may write."""

    @property
    def serves_people(self) -> bool:
        return self.role in {"single", "active"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. `problem` is empty when it is well."""

    name: str
    problem: str = ""
    latency_ms: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"status": "failed" if self.problem else "ok"}
        if self.problem:
            shown["message"] = self.problem
        if self.latency_ms is not None:
            shown["latency_ms"] = round(self.latency_ms, 2)
        return {**shown, **self.facts}


def may_ask(
    address: str,
    given_token: str,
    *,
    allowlist: Sequence[IPv4Network | IPv6Network],
    token: Secret,
) -> bool:
    """By address (an IPv4 one mapped into IPv6 counts as IPv4), or by the health token if there is one."""
    if token.reveal() and hmac.compare_digest(token.reveal().encode(), given_token.encode()):
        return True
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped: IPv4Address | None = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in allowlist)


def health() -> Answer:
    """The process answers. Nothing else is looked at."""
    return Answer(200, f"{BRAND} OK".encode())


def readiness(
    view: NodeView,
    checks: Sequence[Check] = (),
    *,
    maintenance: str = "off",
    passive_is_ready: bool = True,
) -> Answer:
    """May this node take traffic? `checks` are the dependencies, and only given when all were asked for:

    a database that is away must not make a balancer drop every node at once. Nor must maintenance: somebody
    has to tell people of it, and to let the excepted addresses in. A replica takes Git, so it is ready unless
    the operator says otherwise; a site that was superseded is not.
    """
    everything = [Check(name="master_check", problem=_own_problem(view)), *checks]
    problem = _role_problem(view, passive_is_ready=passive_is_ready)
    if view.role != "single":
        everything.append(Check(name="site_check", problem=problem, facts={"role": view.role}))
    failed = any(check.problem for check in everything)
    body: dict[str, Any] = {"status": "failed" if failed else "ok"}
    body.update({check.name: [check.as_json()] for check in everything})
    if maintenance != "off":
        body["maintenance"] = maintenance
    return _json(503 if failed else 200, body)


def _own_problem(view: NodeView) -> str:
    if view.phase != "ready":
        return view.phase
    if view.loop_lag_s > _LAG_S_MAX:
        return f"the event loop lags {view.loop_lag_s:.1f} s"
    return view.problem


def _role_problem(view: NodeView, *, passive_is_ready: bool) -> str:
    if view.serves_people or (view.role == "passive" and passive_is_ready):
        return ""
    return f"this site is {view.role}" + (f", the primary is {view.primary}" if view.primary else "")


def dependency(*, well: bool) -> Answer:
    """For another node, which wants to know whether a dependency is away for it alone."""
    return _json(200, {"well": well})


def liveness(view: NodeView) -> Answer:
    """Does the event loop turn? A process for which this fails is best restarted."""
    if view.beat_age_s > _BEAT_S_MAX:
        return _json(503, {"status": "failed", "message": f"no turn for {view.beat_age_s:.1f} s"})
    if view.loop_lag_s > _LAG_S_MAX:
        return _json(503, {"status": "failed", "message": f"the event loop lags {view.loop_lag_s:.1f} s"})
    return _json(200, {"status": "ok"})


def comprehensive(checks: Sequence[Check], *, as_json: bool) -> Answer:
    """`/health_check`: everything asked for is well, or the first thing that is not. Not for balancers."""
    failed = next((check for check in checks if check.problem), None)
    message = f"health_check failed: {failed.problem}" if failed else "success"
    status = 500 if failed else 200
    if as_json:
        return _json(status, {"healthy": failed is None, "message": message})
    return Answer(status, message.encode())


def node_status(view: NodeView, *, maintenance: str) -> Answer:
    """`/status`: 200 when people can be served here, 503 on a passive, draining or closed node.

    Read-only is serving: whoever follows this must not take clones away from people. A primary whose lease
    has been over for longer than a hiccup is not: its replica may have taken over, and says 200.
    """
    leads = view.serves_people and view.lease_over_s <= _LEASE_OVER_S_MAX
    serves = view.phase == "ready" and maintenance != "full" and leads
    body: dict[str, Any] = {"role": view.role, "maintenance": maintenance != "off", "lag_s": view.lag_s}
    if not view.serves_people:
        body["primary"] = view.primary or None
    elif not leads:
        body["lease"] = "over"
    if maintenance != "off":
        body["maintenance_mode"] = maintenance
    return _json(200 if serves else 503, body)


def skew_problem(skew_ms: int) -> str:
    """Leases and expiry dates compare clocks of different machines; they may differ a little."""
    if abs(skew_ms) <= _SKEW_MS_MAX:
        return ""
    return f"this clock and the database's differ by {abs(skew_ms) / 1000:.0f} s"


def _json(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer(status, json.dumps(body).encode(), "application/json; charset=utf-8")
