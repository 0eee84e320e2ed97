"""A node that does not do everything."""

import json
from collections.abc import Iterator

import pytest

from support.node import Node
from support.servers import wait_until


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    environment = {"MAINSTAY_ROLES": "worker,git", "MAINSTAY_MONITORING_ALLOWLIST": "192.0.2.1/32"}
    with Node(tmp_path_factory.mktemp("worker") / "node", environment=environment) as node:
        yield node


def test_only_the_processes_of_its_roles_run(worker: Node) -> None:
    assert {name.partition("-")[0] for name in worker.state()["processes"]} == {"serve", "data", "worker"}
    assert worker.state()["ssh"] == ""


@pytest.mark.parametrize(
    "path", ["/", "/api/v4/version", "/root/engine.git/info/refs?service=git-upload-pack"]
)
def test_what_it_does_not_serve_it_says_in_a_sentence(worker: Node, path: str) -> None:
    status, body = worker.get(path)
    assert status == 503
    assert body.decode().strip().endswith("its roles are git, worker.")


def test_it_is_watched_like_any_other(worker: Node) -> None:
    assert worker.get("/status")[0] == 200
    assert worker.get("/-/readiness")[0] == 404, "this machine is not on its list"
    assert worker.get("/-/dependencies?of=database")[0] == 404
    assert worker.get("/-/dependencies?of=database", headers={"token": "guessed"})[0] == 404


def test_missing_roles_are_said(worker: Node) -> None:
    def problems() -> list[str]:
        return json.loads(worker.run("status", "--json", check=False).stdout)["problems"]

    wait_until(lambda: "no ready node has the role web" in problems(), timeout_s=30, what="it is said")
    assert "no ready node has the role ssh" in problems()
