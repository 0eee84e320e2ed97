"""The list of nodes, on every kind of database."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.cluster import nodes
from mainstay.cluster.nodes import AmbiguousNode, Introduction, NodeStillLives, NoSuchNode, Pulse
from mainstay.foundation.ids import new_ulid
from mainstay.storage.database import Database

PULSE = Pulse(state="ready", lag_ms=3, skew_ms=-2, facts={"restarts": 0})


def introduction(name: str = "one") -> Introduction:
    return Introduction(
        id=new_ulid(),
        name=name,
        http="10.0.0.1:8080",
        ssh="10.0.0.1:2222",
        rpc="",
        health="10.0.0.1:8081",
        roles=frozenset({"web", "git"}),
        labels=("fast", "eu"),
        version="0.1",
    )


def age(database: Database, node: str, by_ms: int) -> None:
    """Let the last beat of a node be longer ago."""
    with database.write() as tx:
        tx.execute("UPDATE cluster_node SET beat_ms = beat_ms - ? WHERE id = ?", (by_ms, node))


def test_a_node_that_registers_and_beats_is_listed_as_it_is(database: Database) -> None:
    me = introduction()
    started_ms = nodes.register(database, me)
    heard = nodes.beat(database, me.id, PULSE, started_ms=started_ms)
    assert heard.listed
    assert not heard.drain_asked
    (row,) = nodes.live_nodes(database)
    assert (row.id, row.name, row.http, row.health) == (me.id, "one", "10.0.0.1:8080", "10.0.0.1:8081")
    assert row.roles == {"web", "git"}
    assert row.labels == ("fast", "eu")
    assert (row.state, row.lag_ms, row.skew_ms, row.facts) == ("ready", 3, -2, {"restarts": 0})
    assert row.started_ms == started_ms <= row.beat_ms == heard.now_ms


def test_a_node_that_was_silent_for_ten_seconds_is_dead(database: Database) -> None:
    me = introduction()
    started_ms = nodes.register(database, me, state="ready")
    age(database, me.id, nodes.LIVE_MS - 1_000)
    assert [node.id for node in nodes.live_nodes(database)] == [me.id]
    age(database, me.id, 1_001)
    assert nodes.live_nodes(database) == []
    listing = nodes.list_nodes(database)
    assert nodes.condition_of(listing.nodes[0], listing.now_ms) == "dead"
    assert nodes.beat(database, me.id, PULSE, started_ms=started_ms).listed
    assert len(nodes.live_nodes(database)) == 1


def test_a_node_that_stopped_in_order_is_not_dead(database: Database) -> None:
    me = introduction()
    started_ms = nodes.register(database, me)
    nodes.beat(database, me.id, replace(PULSE, state="stopped"), started_ms=started_ms)
    age(database, me.id, 3_600_000)
    listing = nodes.list_nodes(database)
    assert nodes.condition_of(listing.nodes[0], listing.now_ms) == "stopped"
    assert nodes.live_nodes(database) == []


def test_a_wish_to_drain_is_heard_once_and_ends_with_the_next_start(database: Database) -> None:
    me = introduction()
    started_ms = nodes.register(database, me)
    assert nodes.ask_to_drain(database, "one").id == me.id
    nodes.ask_to_drain(database, me.id)
    assert nodes.beat(database, me.id, PULSE, started_ms=started_ms).drain_asked
    age(database, me.id, 100)  # the next life begins later
    with database.write() as tx:
        tx.execute("UPDATE cluster_node SET started_ms = started_ms - 100 WHERE id = ?", (me.id,))
    restarted_ms = nodes.register(database, me)
    assert not nodes.beat(database, me.id, PULSE, started_ms=restarted_ms).drain_asked


def test_a_node_hears_that_it_was_forgotten_or_that_another_took_its_id(database: Database) -> None:
    me = introduction()
    started_ms = nodes.register(database, me)
    with pytest.raises(NodeStillLives, match="stop it first"):
        nodes.forget(database, "one")
    age(database, me.id, nodes.LIVE_MS + 1_000)
    assert nodes.forget(database, "one").id == me.id
    assert not nodes.beat(database, me.id, PULSE, started_ms=started_ms).listed
    assert nodes.list_nodes(database).nodes == []
    assert not nodes.beat(database, me.id, PULSE, started_ms=nodes.register(database, me) - 1).listed


def test_names_may_be_shared_and_then_an_id_is_needed(database: Database) -> None:
    one, other = introduction("twin"), introduction("twin")
    nodes.register(database, one)
    nodes.register(database, other)
    with pytest.raises(AmbiguousNode, match=other.id):
        nodes.ask_to_drain(database, "twin")
    assert nodes.find(database, one.id).id == one.id
    for call in (nodes.ask_to_drain, nodes.forget, nodes.find):
        with pytest.raises(NoSuchNode):
            call(database, "nobody")


def test_facts_without_end_do_not_stop_a_heart(database: Database) -> None:
    me = introduction()
    started_ms = nodes.register(database, me)
    nodes.beat(database, me.id, replace(PULSE, facts={"much": "x" * 100_000}), started_ms=started_ms)
    assert list(nodes.list_nodes(database).nodes[0].facts) == ["too_long"]


def test_who_stopped_a_day_ago_is_forgotten_when_somebody_comes(database: Database) -> None:
    day_ms = 24 * 3600 * 1000
    stopped, dead = introduction("stopped"), introduction("dead")
    nodes.register(database, stopped, state="stopped")
    nodes.register(database, dead, state="ready")
    age(database, stopped.id, day_ms + 1_000)
    age(database, dead.id, day_ms + 1_000)
    nodes.register(database, introduction("new"))
    assert [node.name for node in nodes.list_nodes(database).nodes] == ["dead", "new"]
    age(database, dead.id, 30 * day_ms)
    nodes.register(database, introduction("newer"))
    assert [node.name for node in nodes.list_nodes(database).nodes] == ["new", "newer"]


def test_many_nodes_register_at_once(database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: nodes.register(database, introduction(f"n{n}")), range(16)))
    assert len(nodes.live_nodes(database)) == 16


def test_the_id_of_a_node_is_made_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda _: nodes.node_id(tmp_path), range(16)))
    assert len(ids) == 1
    assert len(ids.pop()) == 26
    assert [file.name for file in tmp_path.iterdir()] == ["node_id"]
    with pytest.raises(nodes.NodeIdUnusable):
        nodes.node_id(tmp_path / "absent")
