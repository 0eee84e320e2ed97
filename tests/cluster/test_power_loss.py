"""Power goes while people push, and what was not synced is gone: no acknowledged push is (matrix row 4).

The control takes `fsync` away from the same node, and the same judge must see the loss.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from support.chaos import power
from support.chaos.history import ABSENT, Recorder
from support.chaos.invariants import history_findings
from support.chaos.load import Desk, Load, RawClient, fresh_commit
from support.chaos.tally import Tally
from support.node import Node
from support.raw_push import RawPusher
from support.servers import skip_missing

ROUNDS = 2
ACKNOWLEDGED = 12
REPOSITORY = "root/ledger"
REFS = [f"refs/heads/line-{number}" for number in range(4)]
NO_SYNC = "import os\nos.fsync = os.fdatasync = lambda descriptor: None\n"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[power.Disk]:
    if reason := power.why_not():
        skip_missing("a disk that can lose power", reason)
    with power.Disk(tmp_path / "disk") as disk:
        yield disk


def clients(node: Node, token: str, desk: Desk, seed: int) -> list[RawClient]:
    return [
        RawClient(
            f"client-{seed}-{number}",
            RawPusher(f"{node.url}/{REPOSITORY}.git", "root", token),
            REPOSITORY,
            REFS,
            desk,
            random.Random(seed * 100 + number),
        )
        for number in range(3)
    ]


def outage(node: Node, disk: power.Disk, token: str, recorder: Recorder, seed: int) -> int:
    """Push until enough was acknowledged, then the power goes. Returns how many pushes were."""
    tally, stop = Tally(), Event()
    desk = Desk(recorder, tally, stop)
    load = Load(clients(node, token, desk, seed), desk)
    load.begin()
    enough = Event()
    for _ in range(600):
        if tally.done["push"] >= ACKNOWLEDGED or enough.wait(0.1):
            break
    node.kill()
    disk.lose_power()
    # The kernel of this machine is still the same; that of a machine without power would not be.
    (node.data / "cache" / "boot_id").write_text(f"boot {seed}")
    load.end()
    return tally.done["push"]


def started(disk: power.Disk) -> tuple[Node, str]:
    node = Node(disk.directory / "node")
    node.start()
    token = node.token(scopes="api,write_repository")
    first, objects = fresh_commit(ABSENT, "the beginning")
    pusher = RawPusher(f"{node.url}/{REPOSITORY}.git", "root", token)
    assert pusher.push([("refs/heads/main", ABSENT, first)], objects) == {"refs/heads/main": "ok"}
    pusher.close()
    return node, token


def refs_of(node: Node, token: str) -> dict[str, str]:
    pusher = RawPusher(f"{node.url}/{REPOSITORY}.git", "root", token)
    try:
        return pusher.refs()
    finally:
        pusher.close()


@pytest.mark.timeout(240)
def test_a_power_cut_loses_no_acknowledged_push(disk: power.Disk) -> None:
    node, token = started(disk)
    recorder = Recorder()
    try:
        for seed in range(ROUNDS):
            assert outage(node, disk, token, recorder, seed) >= ACKNOWLEDGED
            node.start()
            assert history_findings(recorder.operations, REPOSITORY, refs_of(node, token)) == []
            checked = node.run("fsck", "--json", check=False)
            assert checked.returncode == 0, checked.stdout
    finally:
        node.kill()


@pytest.mark.timeout(240)
def test_the_judge_sees_what_a_node_without_sync_loses(disk: power.Disk, tmp_path: Path) -> None:
    crutch = tmp_path / "crutch"
    crutch.mkdir()
    (crutch / "sitecustomize.py").write_text(NO_SYNC)
    node, token = started(disk)
    recorder = Recorder()
    try:
        node.stop()
        node.environment["PYTHONPATH"] = os.pathsep.join(
            [str(crutch), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        node.start()
        outage(node, disk, token, recorder, 1)
        node.start()
        checked = node.run("fsck", "--json", check=False)
        assert checked.returncode != 0, "packs that nobody synced are still there"
    finally:
        node.kill()
