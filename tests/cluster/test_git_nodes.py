"""A node without repositories and two nodes that have them: real processes, PostgreSQL, a shared directory.

The app node (web, ssh) keeps nothing on its disk; the git nodes are killed at will.
"""

import base64
import http.client
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from mainstay.cluster.labels import place
from mainstay.git.protocol.pktline import DELIM, FLUSH, encode
from mainstay.storage.database.postgresql import PostgresqlDatabase
from support.git_client import GitClient, fsck
from support.node import Node
from support.people import Person, person, project_id
from support.ports import free_port
from support.postgres import PostgresServer
from support.process_tree import Sampled
from support.servers import wait_until

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("git-nodes")]

LARGE_BYTES = 128 << 20
GROWTH_MIB_MAX = 64
TOKENS_FRESH_S = 6.0
AT_ONCE_S = 20.0
"""Real git on a busy machine; a node that was waited for would take longer."""


@dataclass
class Cluster:
    app: Node
    git: dict[str, Node]
    database: str
    ada: Person
    clients: Path

    def client(self, name: str) -> Path:
        """A new directory for a clone."""
        return self.clients / name

    def all_serving(self) -> None:
        """Start what was killed, and wait until the node list says that both git nodes serve."""
        for node in self.git.values():
            node.wait_until_ready()
        wait_until(lambda: self._serving() == set(self.git), timeout_s=120, what="both git nodes")

    def _serving(self) -> set[str]:
        """Who is ready by the node list and has beaten within the last seconds."""
        with psycopg.connect(self.database) as connection:
            rows = connection.execute(
                "SELECT name FROM cluster_node WHERE roles LIKE '%git%' AND state = 'ready' AND rpc <> ''"
                " AND beat_ms > EXTRACT(EPOCH FROM clock_timestamp()) * 1000 - 10000"
            ).fetchall()
        return {str(name) for (name,) in rows}

    def repositories_on_the_app_node(self) -> list[Path]:
        return [found for found in self.app.data.rglob("*") if found.suffix in {".pack", ".idx", ".git"}]


@pytest.fixture(scope="module")
def cluster(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    base = tmp_path_factory.mktemp("git-nodes")
    name = postgres_server.create_database()
    url = postgres_server.url(name)
    shared = {
        "MAINSTAY_DATABASE_URL": url,
        "MAINSTAY_OBJECT_STORE": str(base / "objects"),
        "MAINSTAY_DATA_PROCESSES": "1",
        "MAINSTAY_DRAIN_SECONDS": "20",
    }
    with ExitStack() as stack:
        stack.callback(postgres_server.drop_database, name)
        git = {
            each: Node(base / each, environment={**shared, **_git_role(each)}, ready_s_max=120)
            for each in ("git1", "git2")
        }
        app_only = {"MAINSTAY_ROLES": "web,ssh", "MAINSTAY_NODE_NAME": "app"}
        app = Node(base / "app", environment={**shared, **app_only}, ready_s_max=120)
        stack.enter_context(git["git1"])
        for node in (git["git2"], app):
            shutil.copytree(git["git1"].data / "keys", node.data / "keys")
            node.launch()
            stack.callback(node.kill)
        app.wait_until_ready()
        ada = person(app, base / "ada", "ada")
        made = Cluster(app, git, url, ada, base / "clients")
        made.clients.mkdir()
        made.all_serving()
        yield made


def _git_role(name: str) -> dict[str, str]:
    return {
        "MAINSTAY_ROLES": "git,worker" if name == "git1" else "git",
        "MAINSTAY_NODE_NAME": name,
        "MAINSTAY_NODE_LABELS": name,
        "MAINSTAY_RPC": f"127.0.0.1:{free_port()}",
    }


@pytest.fixture(scope="module")
def engine(cluster: Cluster) -> str:
    """A repository of twenty commits and a tag, pushed through the app node."""
    path, git = cluster.ada.project("engine"), cluster.ada.git
    work = git.repository(cluster.client("engine"), files=20)
    git("tag", "-a", "v1", "-m", "One.", cwd=work)
    git("push", "--quiet", cluster.ada.url(path), "main", "v1", cwd=work)
    return path


def test_every_way_to_clone_works_through_a_node_without_repositories(cluster: Cluster, engine: str) -> None:
    git, ada = cluster.ada.git, cluster.ada
    tip = git("rev-parse", "main", cwd=cluster.client("engine"))
    ways = {
        "http2": ("2", ada.url(engine), ()),
        "http0": ("0", ada.url(engine), ()),
        "ssh2": ("2", ada.ssh_url(engine), ()),
        "ssh0": ("0", ada.ssh_url(engine), ()),
        "shallow": ("2", ada.url(engine), ("--depth=3",)),
        "shallow-ssh0": ("0", ada.ssh_url(engine), ("--depth=3",)),
        "partial": ("2", ada.url(engine), ("--filter=blob:none",)),
    }
    for name, (version, url, options) in ways.items():
        where = cluster.client(f"clone-{name}")
        git("-c", f"protocol.version={version}", "clone", "--quiet", *options, url, where)
        assert git("rev-parse", "HEAD", cwd=where) == tip, name
        fsck(git, where)
        assert (where / "file-19").read_text() == "content 19\n", name
    assert git("rev-list", "--count", "HEAD", cwd=cluster.client("clone-shallow")) == "3"
    assert cluster.repositories_on_the_app_node() == []


def test_pushes_over_both_doors_are_seen_at_once(cluster: Cluster, engine: str) -> None:
    git, ada = cluster.ada.git, cluster.ada
    work = cluster.client("pusher")
    git("clone", "--quiet", ada.url(engine), work)
    for number, url in enumerate([ada.url(engine), ada.ssh_url(engine), ada.url(engine)]):
        tip = git.commit(work, f"pushed-{number}", f"{number}\n")
        said = git.try_("push", url, f"HEAD:refs/heads/side-{number}", cwd=work)
        assert said, said.err
        assert git.refs(ada.url(engine))[f"refs/heads/side-{number}"] == tip
    behind = git.try_("push", ada.url(engine), "HEAD~2:refs/heads/side-2", cwd=work)
    assert "non-fast-forward" in behind.err or "fetch first" in behind.err
    fetched = git.try_("fetch", ada.ssh_url(engine), "refs/heads/side-1", cwd=cluster.client("engine"))
    assert fetched, fetched.err


def test_a_first_push_makes_the_project(cluster: Cluster) -> None:
    git, ada = cluster.ada.git, cluster.ada
    work = git.repository(cluster.client("fresh"), files=1)
    said = git.try_("push", ada.url("ada/fresh"), "main", cwd=work)
    assert said, said.err
    assert "was created" in said.err
    assert "refs/heads/main" in git.refs(ada.ssh_url("ada/fresh"))


def test_a_large_push_and_its_clone_leave_the_app_node_small(cluster: Cluster) -> None:
    git, ada = cluster.ada.git, cluster.ada
    path = ada.project("large")
    work = git.repository(cluster.client("large"), files=1)
    git("config", "core.compression", "0", cwd=work)
    chunk = random.Random(11)
    with (work / "large.bin").open("wb") as out:
        for _ in range(LARGE_BYTES >> 20):
            out.write(chunk.randbytes(1 << 20))
    git("add", "--all", cwd=work)
    git("commit", "--quiet", "-m", "Large.", cwd=work)
    with Sampled(cluster.app) as sampled:
        said = git.try_("push", ada.url(path), "main", cwd=work)
        assert said, said.err
        git("clone", "--quiet", "--bare", ada.url(path), cluster.client("large-http"))
        git("clone", "--quiet", "--bare", ada.ssh_url(path), cluster.client("large-ssh"))
    assert sampled.server_growth_mib <= GROWTH_MIB_MAX
    assert sampled.git_peak_mib == 0, "no git runs on the app node"
    for name in ("large-http", "large-ssh"):
        assert git("cat-file", "-s", "main:large.bin", cwd=cluster.client(name)) == str(LARGE_BYTES)
    assert cluster.repositories_on_the_app_node() == []
    for name in ("large", "large-http", "large-ssh"):
        shutil.rmtree(cluster.client(name))


def test_pages_and_the_api_work_without_a_repository(cluster: Cluster, engine: str) -> None:
    git, ada = cluster.ada.git, cluster.ada
    tip = git("rev-parse", "main", cwd=cluster.client("engine"))
    repository = f"projects/{project_id(engine)}/repository"
    with Sampled(cluster.app) as sampled:
        assert ada.must("GET", f"{repository}/branches/main")["commit"]["id"] == tip
        assert [each["id"] for each in ada.must("GET", f"{repository}/commits?per_page=1")] == [tip]
        assert ada.must("GET", f"{repository}/commits/{tip[:10]}")["id"] == tip
        assert ada.must("GET", f"{repository}/tags/v1")["message"] == "One."
        ada.must("POST", f"{repository}/branches", {"branch": "by-api", "ref": tip[:12]})
        made = ada.must("POST", f"{repository}/tags", {"tag_name": "v2", "ref": "main", "message": "Two."})
        assert (made["message"], made["commit"]["id"]) == ("Two.", tip)
        again = ada.api("POST", f"{repository}/tags", {"tag_name": "v2", "ref": "main", "message": "Two."})
        assert (again.status, again.body) == (400, {"message": "Tag v2 already exists"})
        assert ada.api("GET", f"{repository}/commits/{'1' * 40}").status == 404
        readme = {"path": "readme", "name": "readme", "initialize_with_readme": True}
        ada.must("POST", "projects", readme)
    assert sampled.git_peak_mib == 0, "no git runs on the app node"
    refs = git.refs(ada.url(engine))
    assert (refs["refs/heads/by-api"], refs["refs/tags/v2"]) == (tip, made["target"])
    where = cluster.client("readme")
    git("clone", "--quiet", ada.url("ada/readme"), where)
    assert (where / "README.md").read_text() == "# readme\n"
    fsck(git, where)
    assert cluster.repositories_on_the_app_node() == []
    assert not (cluster.app.data / "cache" / "copies").exists()


def test_a_git_node_that_dies_costs_nobody_a_page_or_a_tag(cluster: Cluster, engine: str) -> None:
    """Killed while pages are asked for, and killed right after the commit of a tag."""
    ada = cluster.ada
    cluster.all_serving()
    path = _placed_project(cluster, "tagged", "git1")
    ada.git("push", "--quiet", ada.url(path), "main", cwd=cluster.client("engine"))
    repository = f"projects/{project_id(path)}/repository"
    _restart(cluster.git["git1"], {"MAINSTAY_FAILPOINTS": "push.committed=kill"})
    cluster.all_serving()
    _wait_until_asked(cluster, path, "git1")
    broken_off = _broken_off_changes(cluster.app)
    over = threading.Event()
    answers: list[int] = []

    def look() -> None:
        while not over.is_set():
            answers.append(ada.api("GET", f"{repository}/commits").status)

    looking = [threading.Thread(target=look) for _ in range(2)]
    for each in looking:
        each.start()
    try:
        made = ada.must("POST", f"{repository}/tags", {"tag_name": "v1", "ref": "main", "message": "One."})
        so_far = len(answers)
        wait_until(lambda: len(answers) > so_far + 10, timeout_s=60, what="pages go on")
    finally:
        over.set()
        for each in looking:
            each.join(60)
    assert set(answers) == {200}
    assert _broken_off_changes(cluster.app) == broken_off + 1
    assert ada.must("GET", f"{repository}/tags/v1")["target"] == made["target"]
    assert ada.must("POST", f"{repository}/tags", {"tag_name": "v2", "ref": "main", "message": "Two."})
    assert cluster.repositories_on_the_app_node() == []
    _restart(cluster.git["git1"], {})


def test_a_git_node_that_dies_costs_nobody_a_clone(cluster: Cluster, engine: str) -> None:
    git, ada = cluster.ada.git, cluster.ada
    cluster.all_serving()
    cluster.git["git1"].kill()
    for number, url in enumerate([ada.url(engine), ada.ssh_url(engine), ada.url(engine)]):
        started_s = time.monotonic()
        git("clone", "--quiet", url, cluster.client(f"after-{number}"))
        assert time.monotonic() - started_s < AT_ONCE_S
    work = cluster.client("after-0")
    tip = git.commit(work, "after", "alive\n")
    git("push", "--quiet", ada.url(engine), "HEAD:refs/heads/after", cwd=work)
    assert git.refs(ada.url(engine))["refs/heads/after"] == tip
    cluster.git["git1"].launch()


def test_a_clone_is_cut_and_seen_to_be_when_its_git_node_dies(cluster: Cluster) -> None:
    """The client reads slowly; the node that makes its answer is killed; what came is not taken for whole."""
    git, ada = cluster.ada.git, cluster.ada
    cluster.all_serving()
    path = _placed_project(cluster, "slow", "git2")
    work = git.repository(cluster.client("slow"), files=1)
    (work / "random").write_bytes(random.Random(5).randbytes(24 << 20))
    tip = git.commit(work, "last", "one\n")
    git("push", "--quiet", ada.url(path), "main", cwd=work)
    answer, connection = _slow_clone(cluster, path, tip)
    assert len(answer.read(1 << 20)) == 1 << 20
    cluster.git["git2"].kill()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()
    git("clone", "--quiet", ada.url(path), cluster.client("slow-again"))
    assert git("rev-parse", "HEAD", cwd=cluster.client("slow-again")) == tip
    cluster.git["git2"].launch()


def test_a_push_whose_git_node_dies_is_never_called_good(cluster: Cluster) -> None:
    """Killed before the commit and after it: nobody says ok, and the refs are as the ledger has them."""
    git, ada = cluster.ada.git, cluster.ada
    cluster.all_serving()
    deaths = {"git1": ("push.checked", False), "git2": ("push.linked", True)}
    paths, works = {}, {}
    for name in deaths:
        paths[name] = _placed_project(cluster, f"dies-{name}", name)
        works[name] = git.repository(cluster.client(f"dies-{name}"), files=1)
        git("push", "--quiet", ada.url(paths[name]), "main", cwd=works[name])
    for name, (failpoint, _) in deaths.items():
        _restart(cluster.git[name], {"MAINSTAY_FAILPOINTS": f"{failpoint}=kill"})
    cluster.all_serving()
    for number, door in enumerate([ada.url, ada.ssh_url]):
        for name, (_, moved) in deaths.items():
            _wait_until_asked(cluster, paths[name], name)
            branch = f"refs/heads/try-{number}"
            tip = git.commit(works[name], f"try-{number}", "x\n")
            said = git.try_("push", door(paths[name]), f"HEAD:{branch}", cwd=works[name])
            assert not said
            assert "[new branch]" not in said.err
            assert git.refs(ada.url(paths[name])).get(branch) == (tip if moved else None)
    for name in deaths:
        _restart(cluster.git[name], {})
    cluster.all_serving()
    for name in deaths:
        git("push", "--quiet", ada.url(paths[name]), "HEAD:refs/heads/try-1", cwd=works[name])
        tip = git("rev-parse", "HEAD", cwd=works[name])
        assert git.refs(ada.url(paths[name]))["refs/heads/try-1"] == tip


def _restart(node: Node, failpoints: dict[str, str]) -> None:
    node.kill()
    node.environment.pop("MAINSTAY_FAILPOINTS", None)
    node.environment |= failpoints
    node.launch()


def _wait_until_asked(cluster: Cluster, path: str, name: str) -> None:
    """Until the node is back and nobody avoids it any more."""
    node = cluster.git[name]
    wait_until(lambda: bool(node.state()["processes"].get("rpc", {}).get("ready")), timeout_s=60, what="rpc")
    wait_until(lambda: _asks(cluster, path, name), timeout_s=60, what=f"{name} is asked first")


def test_tokens_are_rotated_under_load_without_an_error(cluster: Cluster, engine: str) -> None:
    cluster.all_serving()
    over, failed, done = threading.Event(), [], []

    def clone_again_and_again(number: int) -> None:
        git = GitClient(cluster.clients / f"load-{number}", cluster.ada.git.key)
        while not over.is_set():
            where = git.home / f"clone-{len(done)}-{number}"
            said = git.try_("clone", "--quiet", "--bare", cluster.ada.url(engine), where)
            (done if said else failed).append(said)
            shutil.rmtree(where, ignore_errors=True)

    threads = [threading.Thread(target=clone_again_and_again, args=(number,)) for number in range(2)]
    for each in threads:
        each.start()
    try:
        cluster.git["git1"].run("secrets", "rotate", "rpc")
        rotated_s = time.monotonic()
        wait_until(
            lambda: bool(failed) or time.monotonic() > rotated_s + TOKENS_FRESH_S,
            timeout_s=60,
            what="every process to have looked again",
        )
        before = len(done)
        wait_until(lambda: bool(failed) or len(done) > before + 3, timeout_s=60, what="clones go on")
    finally:
        over.set()
        for each in threads:
            each.join(120)
    assert failed == []


def test_a_git_node_that_stops_in_order_fails_nothing(cluster: Cluster, engine: str) -> None:
    git, ada = cluster.ada.git, cluster.ada
    stopping = threading.Thread(target=cluster.git["git2"].stop)
    stopping.start()
    number = 0
    while stopping.is_alive() or number < 3:
        git("clone", "--quiet", "--bare", ada.url(engine), cluster.client(f"drain-{number}"))
        number += 1
    stopping.join(60)
    assert number >= 3


def _placed_project(cluster: Cluster, name: str, label: str) -> str:
    """A project that asks for a label before anybody asks for it."""
    path = cluster.ada.project(name)
    with psycopg.connect(cluster.database) as connection:
        row = connection.execute(
            "SELECT repository_id FROM projects_project WHERE full_path = %s", (path,)
        ).fetchone()
    assert row is not None
    database = PostgresqlDatabase(cluster.database)
    try:
        place(database, int(row[0]), label)
    finally:
        database.close()
    return path


def _asks(cluster: Cluster, path: str, name: str) -> bool:
    """Clone once, and look whether it was that node that served it, as nobody avoids it any more."""
    before = _served(cluster.git[name])
    where = cluster.client("probe")
    cluster.ada.git("clone", "--quiet", "--bare", "--depth=1", cluster.ada.url(path), where)
    shutil.rmtree(where)
    return _served(cluster.git[name]) > before


def _served(node: Node) -> int:
    return node.log.read_text(errors="replace").count("nodes.answered")


def _broken_off_changes(node: Node) -> int:
    lines = node.log.read_text(errors="replace").splitlines()
    return sum("rpc.not_served" in line and '"call":"write"' in line.replace(" ", "") for line in lines)


def _slow_clone(
    cluster: Cluster, path: str, tip: str
) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.app.http_port, timeout=60)
    lines = encode(f"want {tip}\n".encode()) + encode(b"done\n")
    body = encode(b"command=fetch\n") + encode(b"object-format=sha1\n") + DELIM + lines + FLUSH
    secret = base64.b64encode(f"{cluster.ada.username}:{cluster.ada.password}".encode()).decode()
    headers = {
        "Content-Type": "application/x-git-upload-pack-request",
        "Git-Protocol": "version=2",
        "Authorization": f"Basic {secret}",
    }
    connection.request("POST", f"/{path}.git/git-upload-pack", body, headers)
    answer = connection.getresponse()
    assert answer.status == 200
    return answer, connection
