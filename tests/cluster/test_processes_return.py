"""Processes that die while the database is away come back without it: what they share, they remember."""

import subprocess
from contextlib import ExitStack
from pathlib import Path

from support.node import Node
from support.postgres import running_postgres
from support.servers import program, wait_until

PROCESSES = ("ssh", "data", "web", "worker")


def test_every_process_comes_back_with_the_same_host_keys(tmp_path: Path) -> None:
    with ExitStack() as outage, ExitStack() as running:
        server = outage.enter_context(running_postgres())
        told = {
            "MAINSTAY_DATABASE_URL": server.url(server.create_database()),
            "MAINSTAY_OBJECT_STORE": str(tmp_path / "objects"),
            "MAINSTAY_DATA_PROCESSES": "1",
        }
        node = running.enter_context(Node(tmp_path / "node", environment=told))
        before = host_keys(node)
        assert len(before) == 2
        outage.close()
        pids = node.pids()
        for name in PROCESSES:
            node.kill_process(name)
        wait_until(lambda: are_back(node, pids), timeout_s=120, what="return of all processes")
        assert host_keys(node) == before
        assert node.get("/-/liveness")[0] == 200


def are_back(node: Node, before: dict[str, int]) -> bool:
    now = node.state()["processes"]
    return all(name in now and now[name]["ready"] and now[name]["pid"] != before[name] for name in PROCESSES)


def host_keys(node: Node) -> list[str]:
    scan = [program("ssh-keyscan"), "-p", str(node.ssh_port), "-t", "ed25519,rsa", "127.0.0.1"]
    done = subprocess.run(scan, capture_output=True, text=True, check=True, timeout=60)
    return sorted(line for line in done.stdout.splitlines() if not line.startswith("#"))
