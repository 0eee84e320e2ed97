"""A node with `--database-url managed`: its own PostgreSQL comes first, goes last, and comes back."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.provision.postgresql import Listen, Primary, Standby, Upstream
from support import managed
from support.managed import SiteAuthority, roomy_path
from support.node import Node
from support.ports import free_port
from support.servers import wait_until

__all__ = ["roomy_path"]

_S_MAX = 120


@pytest.fixture
def node(roomy_path: Path) -> Iterator[Node]:
    managed.require_postgresql()
    with Node(roomy_path / "node", options=["--database-url", "managed"]) as node:
        yield node


def repository(directory: Path) -> None:
    directory.mkdir()
    run("init", "-q", "-b", "main", cwd=directory)
    commit(directory, "first")


def commit(directory: Path, message: str) -> None:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    run(*identity, "commit", "-q", "--allow-empty", "-m", message, cwd=directory)


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=_S_MAX
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def postmaster(node: Node) -> int:
    return int((node.data / "postgresql" / "data" / "postmaster.pid").read_text().splitlines()[0])


def test_another_process_opens_it_for_a_replica_while_it_serves(node: Node, roomy_path: Path) -> None:
    work = roomy_path / "work"
    repository(work)
    url = node.clone_url("root/engine")
    run("push", "-q", url, "main", cwd=work)
    authority, ours = SiteAuthority(roomy_path / "tls"), managed.server_in(node.data)
    listen = Listen(host="127.0.0.1", port=free_port())
    stop, failed = threading.Event(), list[str]()

    def push_on() -> None:
        while not stop.is_set():
            commit(work, "more")
            done = subprocess.run(
                ["git", "push", "-q", url, "main"], cwd=work, check=False, capture_output=True, text=True
            )
            failed.extend([done.stderr] if done.returncode else [])

    pushing = threading.Thread(target=push_on)
    pushing.start()
    try:
        Primary(ours).open_for_replicas(
            listen, authority.credentials("site-a")
        )  # it is started again by the node
        Primary(ours).create_slot("site-b")
        replica = managed.server(roomy_path / "b")
        upstream = Upstream(host=listen.host, port=listen.port, site="site-b", name="site-a")
        Standby(replica).base_backup_from(upstream, authority.credentials("site-b"))
        with replica:
            at = Primary(ours).lsn()
            wait_until(lambda: Standby(replica).lag().replayed >= at, timeout_s=_S_MAX, what="it follows")
            stop.set()
            pushing.join()
            assert replica.system_identifier() == ours.system_identifier()
    finally:
        stop.set()
        pushing.join()
    assert failed == []
    assert run("ls-remote", url, "refs/heads/main", cwd=work).split()[0] == run("rev-parse", "main", cwd=work)


def test_it_serves_from_its_own_database_and_pushes_outlive_it(node: Node, roomy_path: Path) -> None:
    work = roomy_path / "work"
    repository(work)
    url = node.clone_url("root/engine")
    run("push", "-q", url, "main", cwd=work)
    assert "root" in node.run("user", "list").stdout  # a command beside the node

    # Killed: what is under way waits for it.
    commit(work, "second")
    before = postmaster(node)
    os.kill(before, signal.SIGKILL)
    run("push", "-q", url, "main", cwd=work)
    assert postmaster(node) != before
    assert run("ls-remote", url, "refs/heads/main", cwd=work).split()[0] == run("rev-parse", "main", cwd=work)

    # So is the process that runs it: the server ends with it, and another one is started.
    commit(work, "third")
    node.kill_process("postgresql")
    run("push", "-q", url, "main", cwd=work)

    # A stop in order ends it last, and cleanly.
    assert node.stop() == 0
    control = managed.server_in(node.data).control()
    assert control["Database cluster state"] == "shut down"
    assert not managed.server_in(node.data).is_running()
    node.start()
    assert run("ls-remote", url, "refs/heads/main", cwd=work).split()[0] == run("rev-parse", "main", cwd=work)

    # Killed all at once.
    node.kill()
    wait_until(lambda: not managed.server_in(node.data).is_running(), timeout_s=_S_MAX, what="its end")
    node.start()
    assert run("ls-remote", url, "refs/heads/main", cwd=work).split()[0] == run("rev-parse", "main", cwd=work)
    assert "managed" in (node.data / "run" / "settings.json").read_text()
