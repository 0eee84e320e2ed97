"""A node with Redis beside it: it is used, and nobody misses it."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import make_certificate
from support.node import Node
from support.redis_servers import RedisServer, running_redis, running_tls_redis
from support.servers import wait_until

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def node(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    data = tmp_path_factory.mktemp("redis-node") / "node"
    with Node(data, environment={"MAINSTAY_REDIS_URL": server.url}) as node:
        yield node


def status_of(node: Node, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{node.url}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def heard(node: Node) -> float:
    """How many hints made the worker look."""
    _, text = status_of(node, "/-/metrics")
    lines = [line for line in text.splitlines() if line.startswith("mainstay_hints_heard_total ")]
    return float(lines[0].split()[1]) if lines else 0.0


def push(node: Node, directory: Path, name: str) -> None:
    directory.mkdir()
    git = ["git", "-C", str(directory), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    url = node.clone_url(f"root/{name}")
    done = subprocess.run([*git, "push", "-q", url, "main"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_push_wakes_the_worker(node: Node, tmp_path: Path) -> None:
    wait_until(
        lambda: status_of(node, "/health_check/cache")[0] == 200, timeout_s=PATIENCE_S, what="Redis is found"
    )
    wait_until(lambda: heard(node) >= 1, timeout_s=PATIENCE_S, what="the worker listens")
    before = heard(node)
    push(node, tmp_path / "work", "with")
    wait_until(lambda: heard(node) > before, timeout_s=PATIENCE_S, what="the worker heard of the push")


def is_told(node: Node) -> bool:
    """By whichever data process answers: each has found out by itself."""
    status, text = status_of(node, "/health_check/cache.json")
    return status == 500 and "Redis does not answer" in json.loads(text)["message"]


def doctor_says(node: Node) -> str:
    done = node.run("doctor", "--json", check=False)
    findings = {each["name"]: each["says"] for each in json.loads(done.stdout)["findings"]}
    return str(findings["redis"])


def test_without_redis_all_goes_on_and_only_who_asks_for_it_is_told(
    node: Node, server: RedisServer, tmp_path: Path
) -> None:
    assert doctor_says(node).startswith("answers")
    server.kill()
    try:
        push(node, tmp_path / "work", "without")
        wait_until(lambda: is_told(node), timeout_s=PATIENCE_S, what="it is noticed")
        assert doctor_says(node).startswith("does not answer: ")
        assert [status_of(node, path)[0] for path in ("/-/readiness?all=1", "/health_check")] == [200, 200]
    finally:
        server.start()
    wait_until(
        lambda: status_of(node, "/health_check/cache")[0] == 200, timeout_s=PATIENCE_S, what="it is back"
    )


def test_a_redis_that_is_not_trusted_stops_no_push_and_is_told(tmp_path: Path) -> None:
    other, _ = make_certificate(tmp_path / "other")
    with running_tls_redis(tmp_path) as (server, _):
        url = f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={other}"
        with Node(tmp_path / "node", environment={"MAINSTAY_REDIS_URL": url}) as node:
            push(node, tmp_path / "work", "untrusted")

            def message() -> str:
                return str(json.loads(status_of(node, "/health_check/cache.json")[1])["message"])

            wait_until(
                lambda: "its certificate is not trusted" in message(), timeout_s=PATIENCE_S, what="it is told"
            )
            assert "its certificate is not trusted" in doctor_says(node)
