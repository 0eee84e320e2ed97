"""Bodies and statuses that balancers are configured for: HM-01 to HM-07."""

import json
import math
from ipaddress import ip_network
from typing import Any

import pytest

from mainstay.doors.health import decisions
from mainstay.doors.health.decisions import Answer, Check, NodeView
from mainstay.foundation.logs import Secret

READY = NodeView(phase="ready")
LOCAL = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
NO_TOKEN = Secret("")
TOKEN = Secret("s3cr3t")


def body(answer: Answer) -> Any:
    return json.loads(answer.body)


def test_health_is_plain_text() -> None:
    answer = decisions.health()
    assert (answer.status, answer.body) == (200, b"Mainstay OK")
    assert answer.content_type.startswith("text/plain")


def test_readiness_has_the_shape_that_balancers_know() -> None:
    answer = decisions.readiness(READY)
    assert answer.status == 200
    assert body(answer) == {"status": "ok", "master_check": [{"status": "ok"}]}


@pytest.mark.parametrize("phase", ["starting", "draining"])
def test_a_node_that_is_not_ready_says_so(phase: str) -> None:
    answer = decisions.readiness(NodeView(phase=phase))
    assert answer.status == 503
    assert body(answer) == {"status": "failed", "master_check": [{"status": "failed", "message": phase}]}


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (
            NodeView(phase="ready", problem="the database answers b but not this node"),
            "the database answers b",
        ),
        (NodeView(phase="ready", loop_lag_s=6.0), "the event loop lags 6.0 s"),
        (NodeView(phase="draining", problem="anything"), "draining"),
    ],
)
def test_a_node_with_trouble_of_its_own_takes_no_traffic(view: NodeView, message: str) -> None:
    answer = decisions.readiness(view)
    assert answer.status == 503
    assert body(answer)["master_check"][0]["message"].startswith(message)


def test_another_node_is_told_in_one_word() -> None:
    assert [body(decisions.dependency(well=well)) for well in (True, False)] == [
        {"well": True},
        {"well": False},
    ]


def test_a_dependency_fails_readiness_only_when_all_was_asked_for() -> None:
    away = Check(name="db_check", problem="away", latency_ms=1.234)
    answer = decisions.readiness(READY, [away])
    assert answer.status == 503
    assert body(answer)["db_check"] == [{"status": "failed", "message": "away", "latency_ms": 1.23}]
    assert body(answer)["master_check"] == [{"status": "ok"}]
    assert decisions.readiness(READY).status == 200


def test_a_loop_that_lags_is_not_alive() -> None:
    assert body(decisions.liveness(READY)) == {"status": "ok"}
    assert decisions.liveness(NodeView(phase="ready", loop_lag_s=6.0)).status == 503
    assert decisions.liveness(NodeView(phase="ready", beat_age_s=16.0)).status == 503
    assert decisions.liveness(NodeView(phase="draining", loop_lag_s=1.0)).status == 200


def test_the_comprehensive_check_names_the_first_problem() -> None:
    well, ill = Check(name="a"), Check(name="b", problem="Unable to connect to database")
    assert decisions.comprehensive([well], as_json=False).body == b"success"
    assert body(decisions.comprehensive([well], as_json=True)) == {"healthy": True, "message": "success"}
    answer = decisions.comprehensive([well, ill], as_json=False)
    assert (answer.status, answer.body) == (500, b"health_check failed: Unable to connect to database")
    assert body(decisions.comprehensive([ill], as_json=True))["healthy"] is False


@pytest.mark.parametrize(
    ("phase", "role", "maintenance", "status"),
    [
        ("ready", "single", "off", 200),
        ("ready", "active", "off", 200),
        ("ready", "passive", "off", 503),
        ("ready", "single", "full", 503),
        ("ready", "single", "read-only", 200),
        ("draining", "single", "off", 503),
    ],
)
def test_status_is_200_only_where_people_are_served(
    phase: str, role: str, maintenance: str, status: int
) -> None:
    answer = decisions.node_status(NodeView(phase=phase, role=role), maintenance=maintenance)
    assert answer.status == status
    mode = {} if maintenance == "off" else {"maintenance_mode": maintenance}
    elsewhere = {"primary": None} if role == "passive" else {}
    assert body(answer) == {"role": role, "maintenance": bool(mode), "lag_s": 0.0, **mode, **elsewhere}


@pytest.mark.parametrize(("over_s", "status"), [(0.0, 200), (1.9, 200), (2.1, 503), (math.inf, 503)])
def test_a_primary_whose_lease_is_over_leaves_the_balancer(over_s: float, status: int) -> None:
    answer = decisions.node_status(
        NodeView(phase="ready", role="active", lease_over_s=over_s), maintenance="off"
    )
    assert answer.status == status
    assert body(answer).get("lease") == (None if status == 200 else "over")


def test_a_replica_is_ready_for_git_unless_the_operator_says_otherwise() -> None:
    replica = NodeView(phase="ready", role="passive", primary="https://paris.example", lag_s=0.4)
    answer = decisions.readiness(replica)
    assert (answer.status, body(answer)["site_check"]) == (200, [{"status": "ok", "role": "passive"}])
    answer = decisions.readiness(replica, passive_is_ready=False)
    assert (answer.status, body(answer)["site_check"][0]["message"]) == (
        503,
        "this site is passive, the primary is https://paris.example",
    )
    assert body(decisions.node_status(replica, maintenance="off"))["primary"] == "https://paris.example"


def test_a_site_that_was_superseded_is_not_ready() -> None:
    view = NodeView(phase="ready", role="superseded", primary="https://berlin.example")
    assert decisions.readiness(view).status == 503
    assert decisions.node_status(view, maintenance="off").status == 503


def test_maintenance_takes_no_node_out_of_rotation() -> None:
    answer = decisions.readiness(NodeView(phase="ready"), maintenance="full")
    assert (answer.status, body(answer)["maintenance"]) == (200, "full")
    assert "maintenance" not in body(decisions.readiness(NodeView(phase="ready")))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_ask(address: str) -> None:
    assert decisions.may_ask(address, "", allowlist=LOCAL, token=NO_TOKEN)


@pytest.mark.parametrize("address", ["10.0.0.1", "::2", "::ffff:10.0.0.1", "", "not an address"])
def test_others_may_only_with_the_token(address: str) -> None:
    assert not decisions.may_ask(address, "", allowlist=LOCAL, token=NO_TOKEN)
    assert not decisions.may_ask(address, "", allowlist=LOCAL, token=TOKEN)
    assert not decisions.may_ask(address, "wrong", allowlist=LOCAL, token=TOKEN)
    assert decisions.may_ask(address, "s3cr3t", allowlist=LOCAL, token=TOKEN)


def test_without_a_token_set_no_token_opens() -> None:
    assert not decisions.may_ask("10.0.0.1", "", allowlist=(), token=NO_TOKEN)


def test_clocks_may_differ_a_little() -> None:
    assert decisions.skew_problem(-2_000) == ""
    assert "45 s" in decisions.skew_problem(45_000)
