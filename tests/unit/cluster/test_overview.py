"""How the nodes are, together."""

import json
from dataclasses import replace

from mainstay.cluster.nodes import LIVE_MS, Listing, NodeRow
from mainstay.cluster.overview import problems_of, shape_of, verdict_of

NOW_MS = 1_800_000_000_000
NODE = NodeRow(
    id="01", name="a", http="10.0.0.1:80", ssh="10.0.0.1:22", rpc="", health="10.0.0.1:81",
    roles=frozenset({"web", "git", "ssh", "worker"}), labels=(), version="1.0", state="ready",
    started_ms=NOW_MS - 60_000, beat_ms=NOW_MS - 500,
)  # fmt: skip
OTHER = replace(NODE, id="02", name="b")
DEAD = replace(OTHER, beat_ms=NOW_MS - LIVE_MS - 5_000)


def seen(*nodes: NodeRow) -> tuple[str, list[str]]:
    listing = Listing(now_ms=NOW_MS, nodes=nodes)
    problems = problems_of(listing)
    return verdict_of(listing, problems), problems


def test_one_node_alone_is_well() -> None:
    assert seen(NODE) == ("ok", [])


def test_several_nodes_are_well_together() -> None:
    assert seen(NODE, OTHER) == ("ok", [])


def test_a_node_that_stopped_in_order_is_no_problem() -> None:
    assert seen(NODE, replace(DEAD, state="stopped")) == ("ok", [])


def test_a_dead_node_is_said_with_its_last_word() -> None:
    assert seen(NODE, DEAD) == ("degraded", ["node b is dead: its last heartbeat was 15 s ago"])


def test_a_node_that_drains_or_starts_is_said() -> None:
    assert seen(NODE, replace(OTHER, state="draining"))[1] == ["node b is draining"]
    assert seen(NODE, replace(OTHER, state="starting"))[1] == ["node b is starting"]


def test_a_role_that_hangs_on_one_of_several_is_said() -> None:
    verdict, problems = seen(NODE, replace(OTHER, roles=frozenset({"git", "ssh", "worker"})))
    assert (verdict, problems) == ("degraded", ["only node a has the role web"])


def test_a_role_that_nobody_has_is_said() -> None:
    both = frozenset({"web", "git", "ssh"})
    assert seen(replace(NODE, roles=both), replace(OTHER, roles=both))[1] == [
        "no ready node has the role worker"
    ]
    assert seen(replace(NODE, roles=both))[1] == ["no ready node has the role worker"]


def test_different_versions_are_said() -> None:
    assert seen(NODE, replace(OTHER, version="1.1"))[1] == ["nodes run different versions: 1.0, 1.1"]


def test_slow_heartbeats_and_clocks_that_are_off_are_said() -> None:
    assert seen(replace(NODE, lag_ms=1_500))[1] == ["the heartbeats of node a take 1.5 s"]
    assert seen(replace(NODE, skew_ms=-6_000))[1] == [
        "the clock of node a is -6.0 s off that of the database"
    ]


def test_without_a_ready_node_it_is_down() -> None:
    assert seen() == ("down", ["no node is ready"])
    assert seen(DEAD)[0] == "down"
    assert seen(replace(NODE, state="draining"))[0] == "down"


def test_a_node_as_json_says_what_to_believe_of_it() -> None:
    shape = shape_of(DEAD, NOW_MS)
    assert (shape["state"], shape["heartbeat_age_ms"], shape["rpc"]) == ("dead", 15_000, None)
    assert json.loads(json.dumps(shape))["roles"] == ["git", "ssh", "web", "worker"]
