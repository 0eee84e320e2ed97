"""A node whose database fails over under it: real git over HTTP and SSH sees slow pushes, no failed ones."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api_client import ApiClient
from support.git_client import Done, GitClient
from support.node import Node
from support.postgres_pair import Pair, running_pair

pytestmark = pytest.mark.xdist_group("postgres-pair")

AWAY_S = 4.0
"""Between the end of one primary and the promotion of the other."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with running_pair() as pair:
        pair.primary.do("CREATE DATABASE mainstay")
        yield pair


@pytest.fixture(scope="module")
def node(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    data = tmp_path_factory.mktemp("failover") / "node"
    with Node(data, options=["--database-url", pair.url("mainstay")], ready_s_max=120) as node:
        yield node


@pytest.fixture(scope="module")
def git(node: Node, tmp_path_factory: pytest.TempPathFactory) -> GitClient:
    home = tmp_path_factory.mktemp("home")
    key = GitClient(home).new_key()
    root = ApiClient(node.http_port, node.token())
    root.ok("POST", "/user/keys", {"title": "test", "key": key.with_suffix(".pub").read_text()})
    return GitClient(home, key=key)


class Pusher:
    """Pushes one commit after the other until it is told to stop."""

    def __init__(self, git: GitClient, url: str, directory: Path) -> None:
        self.git = git
        self.url = url
        self.copy = git.repository(directory, files=1)
        self.failed: list[Done] = []
        self.pushed = 0
        self.longest_s = 0.0
        self.head = ""

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            head = self.git.commit(self.copy, "file", f"{self.pushed}\n")
            started_s = time.monotonic()
            done = self.git.try_("push", "--quiet", self.url, "HEAD:refs/heads/main", cwd=self.copy)
            self.longest_s = max(self.longest_s, time.monotonic() - started_s)
            if not done:
                self.failed.append(done)
                return
            self.pushed += 1
            self.head = head


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_pushes_and_fetches_go_on_over_a_failover(
    node: Node, pair: Pair, git: GitClient, tmp_path: Path, how: str
) -> None:
    urls = {"http": node.clone_url(f"root/http-{how}"), "ssh": node.ssh_url(f"root/ssh-{how}")}
    pushers = [Pusher(git, url, tmp_path / name) for name, url in urls.items()]
    stop = threading.Event()
    looks: list[Done] = []

    def look_on() -> None:
        while not stop.is_set():
            looks.append(git.try_("ls-remote", urls["http"]))

    try:
        with ThreadPoolExecutor(3) as threads:
            running = [threads.submit(pusher.run, stop) for pusher in pushers]
            wait_for(lambda: all(pusher.pushed for pusher in pushers), within_s=60)
            looking = threads.submit(look_on)
            old = pair.primary
            old.kill() if how == "killed" else old.freeze()
            health_s = answer_time_of(node, "/-/readiness")
            time.sleep(AWAY_S)
            pair.promote()
            before = [pusher.pushed for pusher in pushers]
            try:
                wait_for(
                    lambda: all(
                        pusher.pushed > count + 1 or pusher.failed
                        for pusher, count in zip(pushers, before, strict=True)
                    ),
                    within_s=60,
                )
            finally:
                stop.set()
            for each in [*running, looking]:
                each.result(timeout=120)
    finally:
        pair.restore()
    for pusher in pushers:
        assert pusher.failed == []
        assert git.refs(pusher.url)["refs/heads/main"] == pusher.head, "an acknowledged push is gone"
        assert pusher.longest_s < 40
    assert [look.err for look in looks if not look] == []
    assert health_s < 3, "health waited behind the database"


def test_the_doctor_names_what_is_single(node: Node, pair: Pair) -> None:
    pair.restore()
    done = node.run("doctor", "--ha", "--json", check=False)
    answer = json.loads(done.stdout)
    found = {finding["name"]: finding for finding in answer["findings"]}
    assert done.returncode == 2
    assert found["database"]["verdict"] == "ok", "it has a synchronous standby"
    assert "1 synchronous standby" in found["database"]["says"]
    assert answer["highly_available"] is False
    assert answer["single_points_of_failure"] == ["nodes", "roles", "object store", "balancer"]
    pair.primary.do("ALTER SYSTEM SET synchronous_standby_names = ''")
    pair.primary.do("SELECT pg_reload_conf()")
    wait_for(lambda: pair.primary.ask("SHOW synchronous_standby_names") == "", within_s=10)
    answer = json.loads(node.run("doctor", "--ha", "--json", check=False).stdout)
    assert "database" in answer["single_points_of_failure"]


def wait_for(is_so: Callable[[], bool], *, within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not become so"
        time.sleep(0.05)


def answer_time_of(node: Node, path: str) -> float:
    started_s = time.monotonic()
    node.get(path)
    return time.monotonic() - started_s
