"""An address that follows the primary: what `mainstay lb keepalived` prints, run by the real program."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.chaos.network import Network, why_not
from support.floating import Machine, machines
from support.long import only_long
from support.servers import end, program, skip_missing, wait_until

_SETTLE_S = 1


@pytest.fixture
def network() -> Iterator[Network]:
    program("keepalived")
    if reason := why_not():
        skip_missing("network namespaces", reason)
    with Network() as made:
        yield made


def test_the_address_follows_a_promotion_and_rests_in_maintenance(network: Network, tmp_path: Path) -> None:
    moving = f"{network.gateway.rpartition('.')[0]}.200"
    with machines(network, tmp_path, moving=moving, settle_s=_SETTLE_S) as (one, two):
        one.say(200)
        _wait_until_at(one, two, moving, what="the primary has it")
        one.say(503)
        two.say(200)
        _wait_until_at(two, one, moving, what="it follows a promotion")
        two.say(503)
        _check_it_stays(two, one, moving, s=2.5)


@only_long
def test_the_address_leaves_what_is_silent_and_what_is_gone(network: Network, tmp_path: Path) -> None:
    moving = f"{network.gateway.rpartition('.')[0]}.200"
    with machines(network, tmp_path, moving=moving, settle_s=5) as (one, two):
        one.say(200)
        _wait_until_at(one, two, moving, what="the primary has it")

        one.say(503)
        two.say(200)
        began_s = time.monotonic()
        _wait_until_at(two, one, moving, what="it follows a promotion")
        assert time.monotonic() - began_s > 3, "requests at the old primary had no time to end"

        end(two.node)
        _wait_until_at(one, two, moving, what="a replica that answers is better than silence")
        with network.isolated(one.host):
            wait_until(lambda: two.has(moving), timeout_s=60, what="a machine is gone")
        _wait_until_at(one, two, moving, what="it is back")


def _wait_until_at(here: Machine, not_there: Machine, moving: str, *, what: str) -> None:
    def is_so() -> bool:
        return here.has(moving) and not not_there.has(moving)

    wait_until(is_so, timeout_s=60, what=f"{what}, see {here.log}")


def _check_it_stays(here: Machine, not_there: Machine, moving: str, *, s: float) -> None:
    until = time.monotonic() + s
    while time.monotonic() < until:
        assert here.has(moving)
        assert not not_there.has(moving)
        time.sleep(0.1)
