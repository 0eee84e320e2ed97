"""Many first starts at once make one cluster, whoever is first."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import psycopg

from support.node import Node
from support.servers import wait_until

MACHINES = 5
PROCESSES = 3
REFUSED = 5
START_S_MAX = 120


def count(told: Mapping[str, str], query: str) -> int:
    with psycopg.connect(told["MAINSTAY_DATABASE_URL"]) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def preparing(data: Path, told: Mapping[str, str]) -> "subprocess.Popen[str]":
    """The process that a supervisor starts first, told as a supervisor tells it."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTAY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "mainstay.boot.prepare"],
        env={**others, **told, "MAINSTAY_DATA": str(data), "MAINSTAY_LOG_LEVEL": "error"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def prepared(directories: Sequence[Path], told: Mapping[str, str]) -> list[tuple[int, str]]:
    """Prepare each data directory in a process of its own, all at once; how they ended and what they said."""
    processes = []
    for data in directories:
        (data / "run").mkdir(parents=True, exist_ok=True)
        processes.append(preparing(data, told))
    ends = []
    for process in processes:
        said = process.communicate(timeout=START_S_MAX)[1]
        ends.append((process.returncode, said))
    return ends


def test_five_machines_that_start_at_once_make_one_cluster_and_four_are_told_to_join(
    told: Mapping[str, str], tmp_path: Path
) -> None:
    machines = [tmp_path / f"machine{number}" for number in range(MACHINES)]
    ends = prepared(machines, told)
    winners = [data for data, (code, _) in zip(machines, ends, strict=True) if code == 0]
    assert len(winners) == 1, ends
    for code, said in ends:
        assert code == 0 or (code == REFUSED and "let this machine in with `mainstay join URL" in said), said
    assert [data for data in machines if (data / "keys").exists()] == winners
    assert [data for data in machines if (data / "initial_root_password").exists()] == winners
    assert count(told, "SELECT count(*) FROM accounts_user") == 1
    assert count(told, "SELECT count(*) FROM cluster_secret WHERE name = 'master'") == 1
    assert len(list((tmp_path / "objects").glob("instance.json"))) == 1
    others = [data for data in machines if data not in winners]
    _some_join(Node(winners[0], environment=told), others[:1])


def _some_join(winner: Node, others: Sequence[Path]) -> None:
    """By token, into the very directories that were refused."""
    with winner, ExitStack() as running:
        tokens = [winner.run("node", "token").stdout.strip() for _ in others]
        nodes = [Node(data) for data in others]
        for node, token in zip(nodes, tokens, strict=True):
            node.run("join", winner.url, "--token", token)
        keys = {(data / "keys" / "master.key").read_bytes() for data in [*others, winner.data]}
        assert len(keys) == 1
        for node in nodes:
            running.callback(node.kill)
            node.launch()
        for node in nodes:
            node.wait_until_ready()
        secrets = json.loads(winner.run("secrets", "list", "--json").stdout)
        assert sorted(each["name"] for each in secrets if each["name"].startswith("ssh_host_key")) == [
            "ssh_host_key/ssh-ed25519",
            "ssh_host_key/ssh-rsa",
        ]


def test_several_processes_of_one_machine_make_one_cluster_and_all_are_content(
    told: Mapping[str, str], tmp_path: Path
) -> None:
    """As when a machine is told to start twice, or its supervisor is killed and started again meanwhile."""
    ends = prepared([tmp_path / "machine"] * PROCESSES, told)
    assert [code for code, _ in ends] == [0] * PROCESSES, ends
    assert count(told, "SELECT count(*) FROM accounts_user") == 1
    assert (tmp_path / "machine" / "keys" / "master.key").read_text().count("\n") == 1
    again = prepared([tmp_path / "machine"], told)
    assert again == [(0, "")]


def test_who_dies_in_the_middle_of_the_first_start_finishes_it_later(
    told: Mapping[str, str], tmp_path: Path
) -> None:
    """Killed as soon as its key is in its file: the key is not in the database yet, or just so."""
    data = tmp_path / "machine"
    (data / "run").mkdir(parents=True)
    process = preparing(data, told)
    key = data / "keys" / "master.key"
    wait_until(key.exists, timeout_s=START_S_MAX, what="the key")
    process.kill()
    process.communicate()
    before = key.read_bytes()
    assert prepared([data], told) == [(0, "")]
    assert key.read_bytes() == before
    assert count(told, "SELECT count(*) FROM accounts_user") == 1
