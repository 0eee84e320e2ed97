"""The stack under the fault tests does what it says: kill, freeze, cut, heal, and end without a trace."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mainstay.provision.local import LocalStack, NoSuchMember, StackFailed
from mainstay.provision.local.links import Link
from mainstay.provision.local.pair import PairDatabase
from mainstay.provision.processes import identity_of, is_alive
from support.servers import program, wait_until

pytestmark = pytest.mark.xdist_group("local stack")  # one stack for all, ended by the last


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    for name in ("postgres", "redis-server"):
        program(name)
    directory = tmp_path_factory.mktemp("stack")
    stack = LocalStack(directory, nodes=1, database="pair", store="directory", balancer=False, links=True)
    try:
        stack.start_services()
        yield stack
    finally:
        stack.end()


def test_what_was_killed_comes_back_at_the_same_address(stack: LocalStack) -> None:
    redis = stack.member("redis")
    before, address = redis.pids(), redis.address
    redis.kill()
    assert (redis.state(), [pid for pid in before if identity_of(pid)]) == ("down", [])
    redis.start()
    assert (redis.state(), redis.address) == ("up", address)
    assert set(redis.pids()).isdisjoint(before)


def test_what_is_frozen_takes_connections_and_says_nothing(stack: LocalStack) -> None:
    redis = stack.member("redis")
    redis.freeze()
    try:
        with pytest.raises(TimeoutError):
            _ping(redis.address)
        assert redis.state() == "frozen"
    finally:
        redis.thaw()
    assert _ping(redis.address) == b"+PONG\r\n"


def test_a_link_can_be_cut_silenced_and_healed(stack: LocalStack) -> None:
    link = stack.link("node1", "redis")
    assert _ping(link.address) == b"+PONG\r\n"
    link.cut()
    with pytest.raises(OSError, match="refused"):
        _ping(link.address)
    link.heal()
    _wait_until_it_answers(link)
    link.silence()
    with pytest.raises(TimeoutError):
        _ping(link.address)
    link.heal()
    _wait_until_it_answers(link)


def test_a_standby_that_is_promoted_takes_writes_and_the_other_one_follows(stack: LocalStack) -> None:
    database = stack.database
    assert isinstance(database, PairDatabase)
    killed = database.kill_primary_member()
    promoted = database.promote()
    assert promoted is not killed
    assert promoted.takes_writes()
    database.rejoin()
    assert database.standby() is killed


def test_a_failure_shows_the_end_of_the_log(stack: LocalStack) -> None:
    node = stack.node("node1")
    node.settings["http"] = "nowhere"
    with pytest.raises(StackFailed, match="not HOST:PORT"):
        node.start()
    assert not node.is_running()


def test_an_unknown_name_is_answered_with_the_known_ones(stack: LocalStack) -> None:
    with pytest.raises(NoSuchMember, match="node1"):
        stack.member("node9")


def test_nothing_is_left_at_the_end(stack: LocalStack) -> None:
    everybody = [identity for member in stack.members() for identity in member.identities()]
    homes = list(stack.foreign_directories())
    assert everybody
    stack.end()
    assert [each for each in everybody if is_alive(each)] == []
    assert [home for home in homes if Path(home).exists()] == []
    with pytest.raises(StackFailed):
        stack.member("redis").start()


def _ping(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    with closing(socket.create_connection((host, int(port)), 1)) as connection:
        connection.settimeout(1)
        connection.sendall(b"PING\r\n")
        answer: bytes = connection.recv(64)
        return answer


def _wait_until_it_answers(link: Link) -> None:
    def answers() -> bool:
        try:
            return _ping(link.address) == b"+PONG\r\n"
        except OSError:
            return False

    wait_until(answers, timeout_s=20, what="an answer through the link")
