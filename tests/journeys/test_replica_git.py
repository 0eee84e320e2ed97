"""Git, pages and probes at a replica: real git, by HTTP and SSH, with its primary and without it.

One pair of sites for all of it. The last test takes the primary away for good.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from support.git_client import Done
from support.long import only_long
from support.managed import roomy_directory
from support.node import Node
from support.people import Person, person
from support.raw_http import Reply, ask, basic
from support.replicas import Sites, two_sites
from support.servers import wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("replica-git")]

_S_MAX = 60
_ANSWER_S_MAX = 8.0
"""Five seconds are promised; a busy machine needs some to start git."""
_numbers = count(1)


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    is_long = bool(os.environ.get("MAINSTAY_LONG"))
    with roomy_directory(on_disk=is_long) as directory, two_sites(directory) as sites:
        yield sites


@pytest.fixture(scope="module")
def ada(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Known at the primary; at the replica as soon as her row has come, or the primary is asked."""
    return person(sites.paris, tmp_path_factory.mktemp("ada"), "ada")


@pytest.fixture(scope="module")
def work(ada: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ada.git.repository(tmp_path_factory.mktemp("replica") / "work")


def http(ada: Person, node: Node, path: str) -> str:
    return f"http://ada:{ada.token}@127.0.0.1:{node.http_port}/{path}.git"


def user_id(ada: Person) -> int:
    return int(ada.must("GET", "user")["id"])


def new_path() -> str:
    return f"ada/replica-{next(_numbers)}"


def events(node: Node, name: str) -> list[dict[str, object]]:
    return [line for line in node.log_lines() if line.get("event") == name]


def by_both(sites: Sites, ada: Person, path: str) -> dict[str, str]:
    """The four ways to a repository: by HTTP and SSH, at the primary and at the replica."""
    return {
        "http at paris": http(ada, sites.paris, path),
        "http at berlin": http(ada, sites.berlin, path),
        "ssh at paris": sites.paris.ssh_url(path),
        "ssh at berlin": sites.berlin.ssh_url(path),
    }


def test_a_push_by_any_way_is_fetched_by_every_other_at_once(sites: Sites, ada: Person, work: Path) -> None:
    ways = by_both(sites, ada, new_path())
    for number, (way, url) in enumerate(ways.items()):
        oid = ada.git.commit(work, f"{way}.txt", f"{number}\n")
        pushed = ada.git.try_("push", "-o", "ci.skip", url, "HEAD:main", cwd=work)
        assert pushed, pushed.err
        for other in ways.values():
            assert ada.git.refs(other)["refs/heads/main"] == oid


def test_a_clone_is_served_here_once_all_is_here(sites: Sites, ada: Person, work: Path) -> None:
    path = new_path()
    url = http(ada, sites.berlin, path)
    ada.git("push", "-q", url, "HEAD:main", cwd=work)

    def is_served_here() -> bool:
        """All of a clone: what the primary compacts meanwhile has to come here first."""
        before = len(events(sites.berlin, "forwarding.passed_on"))
        target = work.parent / f"cloned-{next(_numbers)}"
        ada.git("clone", "-q", url, target)
        assert ada.git("rev-parse", "HEAD", cwd=target) == ada.git("rev-parse", "HEAD", cwd=work)
        return len(events(sites.berlin, "forwarding.passed_on")) == before

    wait_until(is_served_here, timeout_s=_S_MAX, what="a clone that the replica serves itself")
    served = [line for line in events(sites.berlin, "githttp.answered") if line["project"] == path]
    assert "git-upload-pack" in {line["endpoint"] for line in served}
    assert {line["actor"] for line in served} >= {f"user:{user_id(ada)}"}


def test_shallow_clones_and_their_deepening(sites: Sites, ada: Person, work: Path) -> None:
    path = new_path()
    ways = by_both(sites, ada, path)
    ada.git("push", "-q", ways["ssh at berlin"], "HEAD:main", cwd=work)
    for number, way in enumerate(("http at berlin", "ssh at berlin")):
        target = work.parent / f"shallow-{number}"
        ada.git("clone", "-q", "--depth", "1", ways[way], target)
        assert ada.git("rev-list", "--count", "HEAD", cwd=target) == "1"
        ada.git("fetch", "-q", "--deepen", "1", cwd=target)
        assert ada.git("rev-list", "--count", "HEAD", cwd=target) == "2"


def test_what_a_push_is_told_is_the_same(sites: Sites, ada: Person, work: Path) -> None:
    """A refused one, one of nothing, and a deletion: output, and code, of git itself."""
    paths = {"paris": new_path(), "berlin": new_path()}
    told: dict[str, list[object]] = {}
    for name, node in (("paris", sites.paris), ("berlin", sites.berlin)):
        url = http(ada, node, paths[name])
        told[name] = [
            said(ada.git.try_("push", url, *what, cwd=work), url)
            for what in (
                ("HEAD:main",),
                ("HEAD:main",),
                ("HEAD~1:main",),
                ("+HEAD~1:refs/heads/side",),
                (":refs/heads/side",),
                ("HEAD:refs/heads/bad..name",),
            )
        ]
    assert told["paris"] == told["berlin"]


def said(done: Done, url: str) -> tuple[int, str]:
    """Without the address, which is what differs."""
    lines = done.err.replace(url, "URL").splitlines()
    return done.code, "\n".join(line for line in lines if "replica-" not in line and "127.0.0.1" not in line)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/ada/nothing.git/info/refs?service=git-upload-pack", {}),
        ("/ada/nothing.git/info/refs?service=git-upload-pack", basic("ada", "wrong")),
        ("/ada/nothing.git/info/refs?service=git-receive-pack", basic("ada", "wrong")),
        ("/bob/nothing.git/info/refs?service=git-receive-pack", {}),
        ("/ada/nothing.git/info/refs", {}),
        ("/ada/nothing.git/info/refs?service=git-upload-archive", {}),
        ("/ada/nothing.git/info/refs?service=git-upload-pack", {"Authorization": "Digest x"}),
    ],
)
def test_a_refusal_is_the_same_in_every_byte(sites: Sites, path: str, headers: dict[str, str]) -> None:
    assert fixed(ask(sites.berlin, "GET", path, headers=headers)) == fixed(
        ask(sites.paris, "GET", path, headers=headers)
    )


def test_an_unknown_repository_is_unknown_in_the_same_words(sites: Sites, ada: Person) -> None:
    headers = basic("ada", ada.token)
    path = "/ada/nothing.git/info/refs?service=git-upload-pack"
    there, here = (
        ask(sites.paris, "GET", path, headers=headers),
        ask(sites.berlin, "GET", path, headers=headers),
    )
    assert (fixed(there), there.status) == (fixed(here), 404)
    told = [
        ada.git.try_ssh("git-upload-pack 'ada/nothing.git'", port=node.ssh_port)
        for node in (sites.paris, sites.berlin)
    ]
    assert told[0] == told[1]
    assert "repository not found" in told[1].err


def fixed(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """What does not differ from one request to the next."""
    moving = {"date", "x-request-id"}
    headers = {name.lower(): value for name, value in reply.headers.items() if name.lower() not in moving}
    return reply.status, headers, reply.body


def test_ssh_at_a_replica_is_ssh_at_the_primary(sites: Sites, ada: Person) -> None:
    for command in (
        (),
        ("ls",),
        ("git-lfs-authenticate ada/x.git download",),
        ("git-upload-pack '/ada/x' 'y'",),
    ):
        told = [ada.git.try_ssh(*command, port=node.ssh_port) for node in (sites.paris, sites.berlin)]
        assert told[0] == told[1]
    assert ada.git.try_ssh(port=sites.berlin.ssh_port).out == "Welcome to Mainstay, @ada!\n"


@pytest.mark.parametrize(
    ("way", "mebibytes"),
    [
        ("http at berlin", 64),
        ("ssh at berlin", 64),
        pytest.param("http at berlin", 2048, marks=[only_long, pytest.mark.timeout(1800)]),
        pytest.param("ssh at berlin", 2048, marks=[only_long, pytest.mark.timeout(1800)]),
    ],
)
def test_a_large_push_goes_through(
    sites: Sites, ada: Person, tmp_path: Path, way: str, mebibytes: int
) -> None:
    work = ada.git.repository(tmp_path / "large", files=1)
    with (work / "random.bin").open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(1024 * 1024))
    urls = by_both(sites, ada, new_path())
    plainly = ("-c", "core.compression=0", "-c", "pack.compression=0", "-c", "http.postBuffer=1000000")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("support.git_client._SECONDS_MAX", 1200)
        ada.git(*plainly, "add", "random.bin", cwd=work)
        ada.git("commit", "-qm", "large", cwd=work)
        ada.git(*plainly, "push", "-q", urls[way], "main", cwd=work)
    oid = ada.git("rev-parse", "HEAD", cwd=work)
    assert ada.git.refs(urls["http at berlin"])["refs/heads/main"] == oid


def test_people_are_led_to_the_primary(sites: Sites) -> None:
    status, page = sites.berlin.get("/", headers={"Accept": "text/html"})
    assert (status, b"Server in replication mode" in page) == (503, True)
    assert sites.paris.url.encode() in page
    status, body = sites.berlin.get("/api/v4/version")
    told = json.loads(body)
    assert (status, told["role"], told["primary_site"]) == (503, "replica", "paris")
    assert told["lag"]["connected"] is True
    status, body = sites.berlin.get("/status")
    assert (status, json.loads(body)["role"]) == (503, "passive")
    assert sites.berlin.get("/-/readiness?all=1")[0] == 200
    assert sites.berlin.get("/-/health") == (200, b"Mainstay OK")
    assert b'mainstay_site_role{role="replica"} 1.0' in sites.berlin.get("/-/metrics")[1]
    assert json.loads(sites.paris.get("/status")[1])["role"] == "active"


def test_a_replica_at_rest_complains_of_nothing(sites: Sites) -> None:
    rests = events(sites.berlin, "worker.rest_began")
    assert len(rests) == 1
    loud = [line for line in sites.berlin.log_lines() if line.get("level") in ("error", "critical")]
    assert loud == []


def test_a_frozen_primary_hangs_nobody_and_reads_go_on(sites: Sites, ada: Person, work: Path) -> None:
    path = new_path()
    ways = by_both(sites, ada, path)
    ada.git("push", "-q", ways["http at paris"], "HEAD:main", cwd=work)
    sites.wait_until_caught_up()
    oid = ada.git("rev-parse", "HEAD", cwd=work)
    pids = [pid for name, pid in sites.paris.pids().items() if name != "postgresql"]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        for way in ("http at berlin", "ssh at berlin"):
            started_s = time.monotonic()
            assert ada.git.refs(ways[way])["refs/heads/main"] == oid
            assert time.monotonic() - started_s < _ANSWER_S_MAX * 2, "two requests at most"
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_without_the_primary_reads_go_on_and_a_promotion_lets_pushes_in(
    sites: Sites, ada: Person, work: Path
) -> None:
    path = new_path()
    ways = by_both(sites, ada, path)
    oid = ada.git.commit(work, "last.txt", "last\n")
    ada.git("push", "-q", ways["http at paris"], "HEAD:main", cwd=work)
    sites.wait_until_caught_up()
    wait_until(lambda: is_whole(sites, ada, path), timeout_s=_S_MAX, what="its packs")
    sites.paris.kill()

    for number, way in enumerate(("http at berlin", "ssh at berlin")):
        target = work.parent / f"orphan-{number}"
        cloned = ada.git.try_("clone", ways[way], target)
        assert cloned, cloned.err
        assert "The primary does not answer. This is a replica" in cloned.err
        assert ada.git("rev-parse", "HEAD", cwd=target) == oid
    asked = ask(
        sites.berlin, "GET", f"/{path}.git/info/refs?service=git-upload-pack", headers=basic("ada", ada.token)
    )
    assert asked.headers["x-mainstay-replica"].startswith("behind=")
    wrong = ask(
        sites.berlin, "GET", f"/{path}.git/info/refs?service=git-upload-pack", headers=basic("ada", "wrong")
    )
    assert wrong.status == 401

    for way in ("http at berlin", "ssh at berlin"):
        started_s = time.monotonic()
        refused = ada.git.try_("push", ways[way], "HEAD:refs/heads/late", cwd=work)
        assert not refused
        assert time.monotonic() - started_s < _ANSWER_S_MAX
        if way.startswith("ssh"):
            assert "nothing was changed" in refused.err

    before = sites.berlin.pids()
    sites.promote_berlin()
    for way in ("http at berlin", "ssh at berlin"):
        pushed = ada.git.try_("push", ways[way], f"HEAD:refs/heads/{way.split()[0]}", cwd=work)
        assert pushed, pushed.err
    wait_until(lambda: sites.berlin.get("/status")[0] == 200, timeout_s=_S_MAX, what="the primary's probe")
    assert sites.berlin.get("/api/v4/version")[0] == 401, "pages and API are open again"
    assert sites.berlin.pids() == before


def test_the_old_primary_comes_back_and_sends_everything_on(sites: Sites, ada: Person, work: Path) -> None:
    """After the test before: whoever still goes to the old name reaches the new primary."""
    sites.paris.launch()
    wait_until(
        lambda: role_of(sites.paris) == "superseded", timeout_s=_S_MAX * 2, what="paris to know of berlin"
    )
    ways = by_both(sites, ada, new_path())
    for way in ("http at paris", "ssh at paris"):
        oid = ada.git.commit(work, f"late-{way}.txt", "late\n")
        pushed = ada.git.try_("push", ways[way], "HEAD:main", cwd=work)
        assert pushed, pushed.err
        for other in ways.values():
            assert ada.git.refs(other)["refs/heads/main"] == oid
    status, page = sites.paris.get("/", headers={"Accept": "text/html"})
    assert (status, b"Another site is the primary now" in page) == (503, True)


def role_of(node: Node) -> str:
    try:
        return str(json.loads(node.get("/status")[1])["role"])
    except OSError:
        return ""


def is_whole(sites: Sites, ada: Person, path: str) -> bool:
    """Whether the replica has served it by itself."""
    count_before = len(events(sites.berlin, "forwarding.passed_on"))
    ada.git("ls-remote", http(ada, sites.berlin, path))
    return len(events(sites.berlin, "forwarding.passed_on")) == count_before
