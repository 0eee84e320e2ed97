"""Two sites on one machine, each with a PostgreSQL of its own: added, killed, promoted, fenced."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mainstay.boot.layout import Layout
from mainstay.boot.managed_database import server_of
from mainstay.ops.sites.losses import Heard
from mainstay.ops.sites.memory import Memory
from mainstay.ops.sites.promotion import STEPS
from mainstay.provision.postgresql import Primary, Standby
from support import managed
from support.long import only_long
from support.managed import roomy_path
from support.node import Node, NodeFailed
from support.ports import free_port
from support.pushes import Pushes, workplace
from support.replicas import ReplicaNode, free_address, is_superseded
from support.servers import wait_until
from support.webhook_receiver import Received, webhook_receiver

__all__ = ["roomy_path"]

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("managed-postgresql")]

_S_MAX = 60


@dataclass(kw_only=True)
class World(Pushes):
    """A primary that serves, a machine that may become its replica, and somebody with Git."""

    paris: Node
    berlin: Node

    def add(self, *options: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
        """With a new token."""
        token = self.paris.run("replica", "token").stdout.strip()
        return self.add_with(token, *options, failpoint=failpoint)

    def add_with(
        self, token: str, *options: str, failpoint: str = "", node: Node | None = None
    ) -> subprocess.CompletedProcess[str]:
        url, node = f"https://{self.paris.environment['MAINSTAY_SITES']}", node or self.berlin
        free = ("--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0")
        sites = ("--sites", node.environment["SITES"], "--name", node.data.name, *free)
        return self.run(node, "replica", "add", url, "--token", token, *sites, *options, failpoint=failpoint)

    def promote(self, *options: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
        return self.run(self.berlin, "promote", *options, failpoint=failpoint)

    def run(self, node: Node, *arguments: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
        """A command that may be made to die."""
        if not failpoint:
            return node.run(*arguments, check=False)
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTAY_")}
        armed = {"MAINSTAY_DATA": str(node.data), "MAINSTAY_FAILPOINTS": f"{failpoint}=kill"}
        return subprocess.run(
            [sys.executable, "-m", "mainstay", *arguments],
            env={**ours, **node.environment, **armed},
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * _S_MAX,
        )

    def status(self, node: Node) -> tuple[int, dict[str, Any]]:
        done = node.run("replica", "status", "--json", check=False)
        return done.returncode, json.loads(done.stdout) if done.stdout else {}


@pytest.fixture
def world(roomy_path: Path, tmp_path: Path) -> Iterator[World]:
    managed.require_postgresql()
    environment = {"MAINSTAY_SITES": free_address(), "MAINSTAY_NODE_NAME": "paris"}
    options = ["--database-url", "managed"]
    git, work = workplace(tmp_path)
    with ReplicaNode(roomy_path / "paris", options=options, environment=environment) as paris:
        berlin = ReplicaNode(roomy_path / "berlin", environment={"SITES": free_address()})
        world = World(git=git, work=work, password=paris.root_password(), paris=paris, berlin=berlin)
        assert world.push(paris), world.refusal
        try:
            yield world
        finally:
            berlin.kill()


def test_a_synchronous_pair_loses_nothing_and_the_old_primary_is_fenced(world: World) -> None:
    checked = world.add("--check", "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["problems"] == []
    token = world.paris.run("replica", "token").stdout.strip()
    killed = world.add_with(token, "--mode", "sync", failpoint="replica.let_in")
    assert killed.returncode == -9
    again = world.add_with(token, "--mode", "sync", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["is_repair"]
    with world.berlin:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the replica is well")
        said = world.status(world.paris)[1]
        assert said["replicas"][0]["is_synchronous"]
        assert said["says"].startswith("REPLICAS OK - berlin up to date")
        refused = world.promote("--yes")
        assert (refused.returncode, "paris answers" in refused.stderr) == (5, True)
        assert all(world.push(world.paris) for _ in range(4)), world.refusal
        wait_until(lambda: heard_of(world.berlin).waits_for_us, timeout_s=_S_MAX, what="it was told so")
        world.paris.kill()
        _promote_although_killed(world)
        assert world.heads_of(world.berlin) == world.pushed
        wait_until(lambda: world.berlin.get("/status")[0] == 200, timeout_s=_S_MAX, what="it serves people")
        assert world.push(world.berlin), world.refusal
        world.paris.start()
        assert world.paris.get("/status")[0] == 503
        fenced = world.paris.run(
            "token", "create", "--user", "root", "--name", "late", "--scopes", "api", check=False
        )
        assert fenced.returncode == 6
        assert "this site was superseded by berlin at epoch 2" in fenced.stderr
        code, said = world.status(world.paris)
        assert (code, said["role"]) == (2, "superseded")
        world.push(world.paris)  # it is refused, or goes on to the new primary: it is nowhere else
        assert world.heads_of(world.berlin) == world.pushed


def heard_of(node: Node) -> Heard:
    heard = Memory(node.data).heard()
    assert heard is not None, "it has followed for a while"
    return heard


def _promote_although_killed(world: World) -> None:
    """Killed after its database was promoted, the same command goes on."""
    began_s = time.monotonic()
    assert world.promote("--yes", failpoint="promotion.database").returncode == -9
    assert not world.push(world.berlin)
    done = world.promote("--yes", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["epoch"] == 2
    assert answer["incomplete"] == []
    assert answer["plan"]["loss"]["is_zero"], answer["plan"]["loss"]
    assert answer["took_s"] < _S_MAX
    assert time.monotonic() - began_s < 2 * _S_MAX


@only_long
def test_what_an_asynchronous_replica_prints_as_lost_is_what_is_lost(world: World) -> None:
    added = world.add()
    assert added.returncode == 0, added.stderr
    with world.berlin:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the replica is well")
        _cut_the_log(world.berlin)
        assert all(world.push(world.paris) for _ in range(2)), world.refusal
        journal = world.berlin.data / "objects" / "journal"
        wait_until(
            lambda: len(list(journal.glob("*/00000*.json"))) >= 4, timeout_s=_S_MAX, what="the journal"
        )
        world.paris.kill()
        lost = _lose_pack_of(world, "push-2")
        checked = world.promote("--check", "--json")
        price = json.loads(checked.stdout)["loss"]
        printed = [(push["project"], push["person"], push["refs"]) for push in price["lost"]]
        assert printed == [("root/engine", "root", [{"name": "refs/heads/push-2", "oid": lost}])]
        assert not price["is_zero"]
        assert world.promote("--yes").returncode == 0
        del world.pushed["push-2"]
        assert world.heads_of(world.berlin) == world.pushed
        wait_until(lambda: world.berlin.get("/status")[0] == 200, timeout_s=_S_MAX, what="it serves people")
        assert world.push(world.berlin), world.refusal
        assert len(list((world.berlin.data / "sites" / "lost").iterdir())) == 1


@only_long
def test_another_replica_follows_the_promoted_one_by_itself(world: World, roomy_path: Path) -> None:
    oslo = ReplicaNode(roomy_path / "oslo", environment={"SITES": free_address()})
    assert world.add().returncode == 0
    token = world.paris.run("replica", "token").stdout.strip()
    added = world.add_with(token, node=oslo)
    assert added.returncode == 0, added.stderr
    with world.berlin, oslo:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="both are well")
        assert world.push(world.paris), world.refusal
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="both have it")
        world.paris.kill()
        assert world.promote("--yes").returncode == 0
        wait_until(lambda: world.berlin.get("/status")[0] == 200, timeout_s=_S_MAX, what="it serves people")
        assert world.push(world.berlin), world.refusal
        wait_until(lambda: world.status(oslo)[0] == 0, timeout_s=_S_MAX, what="it follows the new one")
        wait_until(lambda: world.heads_of(oslo) == world.pushed, timeout_s=_S_MAX, what="it has the new push")
        assert [line for line in oslo.log_lines() if line["event"] == "sites.followed"]
        assert world.push(oslo), world.refusal  # by way of the new primary


@only_long
def test_a_primary_whose_synchronous_replica_is_dead_goes_on_when_it_is_told_to(world: World) -> None:
    assert world.add("--mode", "sync").returncode == 0
    with world.berlin:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the replica is well")
        world.berlin.kill()
        paused = world.paris.run("replica", "pause", "berlin", check=False)
        assert paused.returncode == 0, paused.stderr
        wait_until(lambda: world.push(world.paris), timeout_s=_S_MAX, what="pushes go on")
        world.berlin.start()
        world.paris.run("replica", "resume", "berlin")
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="it is waited for again")
        assert world.status(world.paris)[1]["replicas"][0]["is_synchronous"]
        removed = world.paris.run("replica", "remove", "berlin", check=False)
        assert removed.returncode == 0, removed.stderr
        assert world.push(world.paris), world.refusal
        assert world.status(world.paris)[1]["replicas"] == []


@only_long
def test_a_promotion_that_is_killed_after_each_step_goes_on(world: World) -> None:
    assert world.add("--mode", "sync").returncode == 0
    with world.berlin:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the replica is well")
        assert world.push(world.paris), world.refusal
        world.paris.kill()
        for step in STEPS:
            assert world.promote("--yes", failpoint=f"promotion.{step}").returncode == -9
        done = world.promote("--yes", "--json")
        assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "primary")
        wait_until(lambda: world.berlin.get("/status")[0] == 200, timeout_s=_S_MAX, what="it serves people")
        assert world.heads_of(world.berlin) == world.pushed


@only_long
@pytest.mark.parametrize("step", STEPS)
def test_the_old_primary_returns_in_any_phase_of_a_promotion(world: World, step: str) -> None:
    """Whatever it acknowledges then is at the new one in the end."""
    assert world.add("--mode", "sync").returncode == 0
    with world.berlin:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the replica is well")
        assert world.push(world.paris), world.refusal
        world.paris.kill()
        assert world.promote("--yes", failpoint=f"promotion.{step}").returncode == -9
        if step in ("database", "protected"):  # nobody confirms its commits, and nobody has a higher epoch
            with pytest.raises(NodeFailed, match="commits wait for berlin"):
                world.paris.start()
            world.paris.kill()
        else:
            world.paris.start()
        pushing = threading.Thread(target=world.push, args=(world.paris,))
        pushing.start()
        pushing.join(5.0)  # it is answered, or has to wait
        ended = world.promote("--yes", "--force")
        assert ended.returncode == 0, ended.stderr
        pushing.join(2 * _S_MAX)
        assert not pushing.is_alive()
        if step in ("database", "protected"):
            world.paris.start()
        wait_until(lambda: world.berlin.get("/status")[0] == 200, timeout_s=_S_MAX, what="it serves people")
        wait_until(lambda: is_superseded(world.paris), timeout_s=_S_MAX, what="the old one knows")
        assert world.push(world.berlin), world.refusal
        rejoined = world.paris.run("replica", "rejoin", check=False)
        assert rejoined.returncode == 0, rejoined.stderr
        wait_until(lambda: world.status(world.berlin)[0] == 0, timeout_s=_S_MAX, what="a pair again")
        assert not world.lacking(world.berlin)


@only_long
def test_a_delayed_replica_is_promoted_to_the_moment_before_the_mistake(world: World) -> None:
    added = world.add("--delay", "1h")
    assert added.returncode == 0, added.stderr
    with world.berlin:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the replica is well")
        assert world.push(world.paris), world.refusal
        time.sleep(1.1)  # moments are typed in seconds
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        before = dict(world.pushed)
        time.sleep(1.1)
        assert world.push(world.paris), world.refusal
        lsn = Primary(server_of(world.paris.data)).lsn()
        standby = Standby(server_of(world.berlin.data))
        wait_until(lambda: standby.lag().received >= lsn, timeout_s=_S_MAX, what="the log has come")
        done = world.promote("--yes", "--force", "--to-time", moment)
        assert done.returncode == 0, done.stderr + done.stdout
        assert world.heads_of(world.berlin) == before
        wait_until(lambda: world.berlin.get("/status")[0] == 200, timeout_s=_S_MAX, what="it serves people")
        del world.pushed["push-2"]
        assert world.push(world.berlin), world.refusal


@only_long
def test_an_old_primary_rejoins_without_a_full_copy_and_keeps_what_only_it_had(world: World) -> None:
    assert world.add().returncode == 0
    with world.berlin:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the replica is well")
        world.berlin.kill()
        assert world.push(world.paris), world.refusal
        world.paris.kill()
        world.berlin.start()
        assert world.promote("--yes").returncode == 0
        only_there = world.pushed.pop("push-1")
        wait_until(lambda: world.berlin.get("/status")[0] == 200, timeout_s=_S_MAX, what="it serves people")
        assert world.push(world.berlin), world.refusal
        world.paris.start()
        done = world.paris.run("replica", "rejoin", "--json", check=False)
        assert done.returncode == 0, done.stderr
        diverged = json.loads(done.stdout)["diverged"]
        assert [each["refs"] for each in diverged if each["kind"] == "push"] == [
            [f"refs/heads/push-1 to {only_there}"]
        ]
        wait_until(lambda: world.status(world.berlin)[0] == 0, timeout_s=_S_MAX, what="it follows")
        assert world.status(world.paris)[1]["role"] == "replica"
        assert len(list((world.paris.data / "sites" / "diverged").iterdir())) == len(diverged)
        kept = world.paris.data / "sites" / "diverged"
        wait_until(
            lambda: list(kept.glob("*.adopted")), timeout_s=_S_MAX, what="the new primary has taken it"
        )
        assert _oid_of(world.berlin, b"refs/diverged/paris/") == [only_there]
        again = world.paris.run("replica", "rejoin", check=False)
        assert (again.returncode, "nothing to rejoin" in again.stderr) == (5, True)
        assert world.push(world.berlin), world.refusal
        wait_until(lambda: world.heads_of(world.paris) == world.pushed, timeout_s=_S_MAX, what="it has it")


@only_long
def test_a_replica_killed_in_the_middle_of_the_base_backup_is_made_whole(world: World) -> None:
    _make_large(world)
    token = world.paris.run("replica", "token").stdout.strip()
    free = ["--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0", "--sites", world.berlin.environment["SITES"]]
    url = f"https://{world.paris.environment['MAINSTAY_SITES']}"
    command = ["replica", "add", url, "--token", token, "--name", "berlin", "--data", str(world.berlin.data)]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTAY_")}
    making = Layout(world.berlin.data).database / "data.making"
    with (world.berlin.data.parent / "add.log").open("wb") as log:
        adding = subprocess.Popen(
            [sys.executable, "-m", "mainstay", *command, *free], env=ours, stdout=log, stderr=log
        )
    wait_until(making.exists, timeout_s=_S_MAX, what="the copy has begun")
    adding.kill()
    assert adding.wait(_S_MAX) == -9
    assert making.exists(), "it was killed in the middle"
    again = world.berlin.run(*command, *free, check=False)
    assert again.returncode == 0, again.stderr
    with world.berlin:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the replica is well")
        assert world.heads_of(world.berlin) == world.pushed


def _make_large(world: World) -> None:
    """So that the copy takes a while."""
    row = "INSERT INTO filling SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 200000) AS i"
    with server_of(world.paris.data).connected("mainstay") as connection:
        connection.execute("CREATE TABLE filling (id int, text text)")
        connection.execute(row)


@only_long
def test_a_replica_killed_while_it_pulls_goes_on_where_it_was(world: World) -> None:
    assert world.add().returncode == 0
    with world.berlin:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the replica is well")
        world.berlin.kill()
        assert all(world.push(world.paris) for _ in range(8)), world.refusal
        packs = world.berlin.data / "objects" / "repositories"
        before = len(list(packs.glob("*/packs/*")))
        world.berlin.launch()
        wait_until(
            lambda: len(list(packs.glob("*/packs/*"))) > before, timeout_s=_S_MAX, what="the first new object"
        )
        world.berlin.kill()
        world.berlin.start()
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="everything is there")
        world.paris.kill()
        assert world.heads_of(world.berlin) == world.pushed


@only_long
def test_a_cache_keeps_what_its_pattern_names_and_serves_everything(world: World) -> None:
    other = world.paris.clone_url("root/other", secret=world.password)
    world.git("push", other, "HEAD:refs/heads/main", cwd=world.work)
    assert world.add("--cache", "root/eng*").returncode == 0
    with webhook_receiver() as heard:
        world.berlin.environment["MAINSTAY_CACHE_SYNC_URL"] = heard.url
        _check_cache(world, other, heard)


def _check_cache(world: World, other: str, heard: Received) -> None:
    with world.berlin:
        assert world.push(world.paris), world.refusal
        world.git("push", other, "HEAD:refs/heads/more", cwd=world.work)
        packs = world.berlin.data / "objects" / "repositories"
        wait_until(lambda: len(list(packs.glob("*/packs/*.pack"))) == 2, timeout_s=_S_MAX, what="its packs")
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the cache is well")
        assert len(list(packs.iterdir())) == 1
        wait_until(
            lambda: world.heads_of(world.berlin) == world.pushed, timeout_s=_S_MAX, what="the kept one"
        )
        here = world.berlin.clone_url("root/other", secret=world.password)
        assert list(world.git.refs(here)) == ["HEAD", "refs/heads/main", "refs/heads/more"]
        assert world.promote("--yes", "--force").returncode == 5
        wait_until(lambda: heard.posts, timeout_s=_S_MAX, what="the webhook")
        told = [json.loads(post.body) for post in heard.posts]
        assert [(each["project"]["path_with_namespace"], each["refs"]) for each in told] == [
            ("root/engine", ["refs/heads/push-1"])
        ]
        assert told[0]["changes"][0]["after"] == world.pushed["push-1"]


@only_long
def test_a_planned_failover_loses_no_push_and_goes_back_again(world: World) -> None:
    assert world.add("--mode", "sync").returncode == 0
    with world.berlin:
        wait_until(lambda: world.status(world.paris)[0] == 0, timeout_s=_S_MAX, what="the replica is well")
        with _pushing(world) as refused:
            done = world.paris.run("failover", "--to", "berlin", "--yes", "--json", check=False)
            assert done.returncode == 0, done.stderr
            wait_until(
                lambda: world.berlin.get("/status")[0] == 200, timeout_s=_S_MAX, what="it serves people"
            )
        assert json.loads(done.stdout)["epoch"] == 2
        assert json.loads(done.stdout)["paused_s"] < 30
        assert refused == []
        assert world.heads_of(world.berlin) == world.pushed
        assert world.paris.get("/status")[0] == 503
        wait_until(lambda: world.status(world.berlin)[0] == 0, timeout_s=_S_MAX, what="the old one follows")
        assert world.status(world.berlin)[1]["replicas"][0]["is_synchronous"]
        back = world.berlin.run("failover", "--to", "paris", "--yes", check=False)
        assert back.returncode == 0, back.stderr
        wait_until(lambda: world.paris.get("/status")[0] == 200, timeout_s=_S_MAX, what="it serves people")
        assert world.push(world.paris), world.refusal
        assert world.heads_of(world.paris) == world.pushed


def _oid_of(node: Node, prefix: bytes) -> list[str]:
    """What the ledger has below the prefix."""
    rows = server_of(node.data).rows("SELECT name, oid FROM ledger_ref", database="mainstay")
    return [bytes(oid).hex() for name, oid in rows if bytes(name).startswith(prefix)]


@contextmanager
def _pushing(world: World) -> Iterator[list[str]]:
    """One after the other, by way of the first primary, for the length of the block: what was refused."""
    refused: list[str] = []
    stop = threading.Event()

    def push() -> None:
        while not stop.is_set():
            if not world.push(world.paris):
                refused.append(world.refusal)

    thread = threading.Thread(target=push)
    thread.start()
    try:
        yield refused
    finally:
        stop.set()
        thread.join(2 * _S_MAX)


def _cut_the_log(node: Node) -> None:
    """Its PostgreSQL does not find its primary any more; everything else does."""
    server = server_of(node.data)
    upstream = server.wishes.upstream
    assert upstream is not None
    server.wish(upstream=replace(upstream, port=free_port()))
    server.reload()
    server.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walreceiver'")
    wait_until(lambda: not Standby(server).lag().is_streaming, timeout_s=_S_MAX, what="the cut")


def _lose_pack_of(world: World, branch: str) -> str:
    """The pack that came last; the oid of the push that brought it."""
    packs = sorted((world.berlin.data / "objects" / "repositories").glob("*/packs/*.pack"))
    packs[-1].unlink()
    return world.pushed[branch]
