"""Maintenance mode on two nodes that share a database: both know within two seconds, and when it is away."""

import time
from collections.abc import Iterator
from functools import partial

import pytest

from mainstay.ops.maintenance import switch
from mainstay.ops.maintenance.state import Mode
from mainstay.storage.database.postgresql import PostgresqlDatabase
from support.node import Node
from support.pair import Pair
from support.people import Person
from support.servers import wait_until

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("pair")]

SLOW_MACHINE_S = 3.0
"""Beside the promise: the look at the metrics itself takes time while other tests run."""


@pytest.fixture
def decree(pair: Pair) -> Iterator[PostgresqlDatabase]:
    """The database of the pair, reached past its cables."""
    url = pair.a.node.environment["MAINSTAY_DATABASE_URL"]
    database = PostgresqlDatabase(url)
    yield database
    pair.heal()
    switch.turn_off(database, by="the test")
    database.close()
    for node in (pair.a.node, pair.b.node):
        wait_until(partial(knows, node, "read-only", 0), timeout_s=30, what="the end of it")


def knows(node: Node, mode: str, processes: int) -> bool:
    """Whether so many processes of the node know it: data, SSH, worker."""
    return f'mainstay_maintenance_mode{{mode="{mode}"}} {processes}.0' in node.get("/-/metrics")[1].decode()


def test_every_process_of_every_node_knows_within_two_seconds(
    pair: Pair, decree: PostgresqlDatabase, ada: Person
) -> None:
    began_s = time.monotonic()
    switch.turn_on(decree, mode=Mode.READ_ONLY, by="the test")
    for node in (pair.a.node, pair.b.node):
        wait_until(partial(knows, node, "read-only", 3), timeout_s=30, what="all processes know")
    assert time.monotonic() - began_s < switch.IN_FORCE_S + SLOW_MACHINE_S
    assert pair.b.node.get("/status")[0] == 200
    assert ada.api("POST", "projects", {"name": "late"}).status == 503


def test_a_node_without_its_database_goes_on_with_what_it_knew(
    pair: Pair, decree: PostgresqlDatabase, ada: Person
) -> None:
    switch.turn_on(decree, mode=Mode.READ_ONLY, by="the test")
    wait_until(partial(knows, pair.b.node, "read-only", 3), timeout_s=30, what="all processes know")
    pair.b.database.cut()
    wait_until(lambda: pair.b.readiness() == 503, timeout_s=30, what="the loss is noticed")
    refused, body = pair.b.node.get("/ada/x.git/info/refs?service=git-receive-pack")
    assert (refused, "maintenance mode" in body.decode()) == (503, True)
