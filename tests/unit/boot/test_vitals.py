"""Where a node says that others reach it."""

from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.boot.parsing import Address
from mainstay.boot.settings import NodeSettings, assemble
from mainstay.boot.vitals import advertised, introduction


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    return assemble(tmp_path, [{"http": "10.0.0.7:8080", "ssh": "10.0.0.7:2222", "node_name": "web1"}])


def test_what_it_listens_on_is_where_it_is(settings: NodeSettings) -> None:
    me = introduction(settings)
    assert (me.name, me.http, me.ssh, me.rpc) == ("web1", "10.0.0.7:8080", "10.0.0.7:2222", "")
    assert me.health == me.http, "as long as it has no port for that"
    assert len(me.id) == 26


def test_a_health_port_is_told(settings: NodeSettings) -> None:
    assert introduction(replace(settings, health=Address("10.0.0.7", 9))).health == "10.0.0.7:9"


def test_doors_that_a_role_does_not_open_are_not_told(settings: NodeSettings) -> None:
    rpc = Address("10.0.0.7", 8443)
    both = introduction(replace(settings, rpc=rpc))
    assert both.rpc == "10.0.0.7:8443"
    neither = introduction(replace(settings, rpc=rpc, roles=frozenset({"web"})))
    assert (neither.ssh, neither.rpc) == ("", "")


def test_an_address_that_was_given_is_told_instead(settings: NodeSettings) -> None:
    named = replace(settings, node_address="web1.example.org")
    assert advertised(named.http, named) == "web1.example.org:8080"
    assert advertised(Address("0.0.0.0", 80), replace(settings, node_address="fd00::7")) == "[fd00::7]:80"


def test_who_listens_everywhere_is_where_its_database_sees_it(settings: NodeSettings) -> None:
    near = replace(settings, database_url="postgresql://mainstay:pw@127.0.0.1:5,10.9.9.9:5/mainstay")
    assert advertised(Address("0.0.0.0", 80), near) == "127.0.0.1:80"
    unheard_of = replace(settings, database_url="postgresql://no.such.host.invalid/mainstay")
    assert advertised(Address("::", 80), unheard_of) == "127.0.0.1:80"
