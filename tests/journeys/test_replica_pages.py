"""People and programs look at a replica, where that was asked for; nobody changes anything there."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.git_client import GitClient
from support.long import only_long
from support.managed import roomy_path
from support.node import Node
from support.replicas import Sites, two_sites
from support.servers import wait_until

__all__ = ["roomy_path"]

pytestmark = [only_long, pytest.mark.timeout(300), pytest.mark.xdist_group("managed-postgresql")]

_S_MAX = 60


@pytest.fixture
def sites(roomy_path: Path, tmp_path: Path) -> Iterator[Sites]:
    with two_sites(roomy_path, replica={"MAINSTAY_REPLICA_PAGES": "read-only"}) as sites:
        git = GitClient(tmp_path / "home")
        work = git.repository(tmp_path / "work")
        git("push", "--quiet", sites.paris.clone_url("root/engine"), "HEAD:refs/heads/main", cwd=work)
        sites.wait_until_caught_up()
        yield sites


def api(node: Node, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any, str]:
    """Status, answer, and how old it says that it is."""
    request = urllib.request.Request(
        f"{node.url}/api/v4/{path}",
        None if body is None else json.dumps(body).encode(),
        {"PRIVATE-TOKEN": token, "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer), answer.headers.get("X-Mainstay-Replica", "")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), error.headers.get("X-Mainstay-Replica", "")


def test_what_only_reads_is_answered_and_nothing_else(sites: Sites) -> None:
    token = sites.paris.token()
    sites.wait_until_caught_up()

    def knows_the_token() -> bool:
        return api(sites.berlin, "GET", "user", token)[0] == 200

    wait_until(knows_the_token, timeout_s=_S_MAX, what="the token has come over")
    for path in ("projects", "projects/root%2Fengine/repository/branches/main", "users"):
        there, here = api(sites.paris, "GET", path, token), api(sites.berlin, "GET", path, token)
        assert there[0] == here[0] == 200
        assert _without_addresses(here[1]) == _without_addresses(there[1])
        assert (there[2], here[2].startswith("behind=")) == ("", True)
    refused = api(sites.berlin, "POST", "projects", token, {"name": "fresh"})
    assert (refused[0], refused[1]["role"]) == (503, "replica")
    assert api(sites.berlin, "GET", "user", "wrong")[0] == 401
    assert sites.berlin.get("/")[0] == 200
    sites.paris.kill()
    assert api(sites.berlin, "GET", "projects", token)[0] == 200


def _without_addresses(answer: Any) -> str:
    """Links lead to the site that was asked."""
    text = json.dumps(answer)
    for part in ("http://127.0.0.1:", "ssh://git@127.0.0.1:"):
        pieces = text.split(part)
        text = part.join([pieces[0], *(piece.lstrip("0123456789") for piece in pieces[1:])])
    return text
