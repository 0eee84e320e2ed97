"""A second machine becomes a node by a token, and machines that do not belong are refused."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from mainstay.cluster.joining import make_token
from mainstay.cluster.secrets import secrets_in
from mainstay.foundation.clock import SYSTEM
from mainstay.storage.database.postgresql import PostgresqlDatabase
from support.git_client import GitClient
from support.node import Node, NodeFailed
from support.postgres import PostgresServer, running_postgres
from support.s3 import S3Server, s3_server
from support.servers import program

pytestmark = pytest.mark.xdist_group("joining")

WRONG = 5
NOT_ALLOWED = 3
AWAY = 6


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@dataclass
class Cluster:
    """A node that was first, one that joined, and how to make more."""

    home: Path
    postgres: PostgresServer
    database: str
    store: str
    first: Node
    joined: Node

    def token(self) -> str:
        """As `mainstay node token` makes it, without the second that a process takes to start."""
        database = PostgresqlDatabase(self.database, connections_max=2)
        try:
            secrets = secrets_in(database, self.first.data, SYSTEM)
            return make_token(database, secrets, by="test", ttl_ms=600_000).text.reveal()
        finally:
            database.close()

    def join(self, node: Node, *options: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        """`mainstay join` for the data directory of a node that does not run."""
        given = ["--token", token or self.token()]
        return node.run("join", self.first.url, *given, *options, check=False)

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.database, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def cluster(
    postgres: PostgresServer, moto: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The first node has all from its environment. The second has nothing but a token."""
    home = tmp_path_factory.mktemp("cluster")
    database, store = postgres.url(postgres.create_database()), moto.url("joining")
    told = {
        "MAINSTAY_DATABASE_URL": database,
        "MAINSTAY_OBJECT_STORE": store,
        "MAINSTAY_DATA_PROCESSES": "1",
        "MAINSTAY_DRAIN_NOTICE_SECONDS": "0",
        **moto.environment,
    }
    with Node(home / "first", environment=told) as first:
        joined = Node(home / "joined")
        made = Cluster(home, postgres, database, store, first, joined)
        done = made.join(joined, "--node-name", "second", "--data-processes", "1")
        assert done.returncode == 0, done.stderr
        with joined:
            yield made


# Joining
def test_what_one_node_takes_the_other_serves(cluster: Cluster, tmp_path: Path) -> None:
    git, secret = GitClient(tmp_path / "home"), cluster.first.root_password()
    work = git.repository(tmp_path / "work")
    for pushed_to, cloned_from in ((cluster.first, cluster.joined), (cluster.joined, cluster.first)):
        name = f"root/through-{pushed_to.data.name}"
        git("push", pushed_to.clone_url(name, secret=secret), "main", cwd=work)
        git("clone", "-q", cloned_from.clone_url(name, secret=secret), str(tmp_path / name))
        assert git("rev-parse", "main", cwd=tmp_path / name) == git("rev-parse", "main", cwd=work)


def test_clients_meet_the_same_ssh_host_keys_on_both(cluster: Cluster) -> None:
    first, joined = fingerprints(cluster.first), fingerprints(cluster.joined)
    assert first == joined
    assert len(first) == 2


def fingerprints(node: Node) -> list[str]:
    scan = [program("ssh-keyscan"), "-p", str(node.ssh_port), "-t", "ed25519,rsa", "127.0.0.1"]
    done = subprocess.run(scan, capture_output=True, text=True, check=True, timeout=60)
    return sorted(line.partition(" ")[2] for line in done.stdout.splitlines() if not line.startswith("#"))


def test_the_store_s_credentials_reach_the_joined_node_but_not_its_files(
    cluster: Cluster, moto: S3Server
) -> None:
    checks = json.loads(cluster.joined.get("/-/readiness?all=1")[1])
    assert checks["object_store_check"][0]["status"] == "ok"
    written = [file for file in cluster.joined.data.rglob("*") if file.is_file()]
    assert not [file for file in written if moto.secret_key.encode() in file.read_bytes()]
    listed = json.loads(cluster.first.run("secrets", "list", "--json").stdout)
    assert "object_store/environment" in [secret["name"] for secret in listed]
    assert moto.secret_key not in json.dumps(listed)


def test_what_joining_wrote_is_the_owners_alone(cluster: Cluster) -> None:
    data = cluster.joined.data
    for name in ("mainstay.toml", "keys/master.key", "tls/node.pem"):
        assert (data / name).stat().st_mode & 0o777 == 0o600, name
    assert data.stat().st_mode & 0o777 == 0o700
    said = (data / "mainstay.toml").read_text()
    assert f'database_url = "{cluster.database}"' in said
    assert 'node_name = "second"' in said


def test_each_node_has_an_id_of_its_own(cluster: Cluster) -> None:
    ids = {(node.data / "node_id").read_text() for node in (cluster.first, cluster.joined)}
    assert len(ids) == 2
    instances = {(node.data / "instance_id").read_text() for node in (cluster.first, cluster.joined)}
    assert len(instances) == 1


def test_a_token_works_once_and_from_any_node(cluster: Cluster, tmp_path: Path) -> None:
    token = cluster.joined.run("node", "token", "--ttl", "5m").stdout.strip()
    third, fourth = Node(tmp_path / "third"), Node(tmp_path / "fourth")
    assert cluster.join(third, token=token).returncode == 0
    again = cluster.join(fourth, token=token)
    assert again.returncode == NOT_ALLOWED
    assert "unknown, used or expired" in again.stderr
    assert not (fourth.data / "keys").exists()


@pytest.mark.parametrize("token", ["mjt_x", "", "mjt_01JD6Q9Z4M8W3N5V7X2Y1B0CDE_" + "0" * 64])
def test_other_tokens_let_nobody_in(cluster: Cluster, tmp_path: Path, token: str) -> None:
    done = cluster.join(Node(tmp_path / "stranger"), token=token or "none")
    assert done.returncode in (2, NOT_ALLOWED)
    assert done.stderr.startswith("mainstay: ")
    assert "Traceback" not in done.stderr


def test_joining_again_repairs_and_keeps_what_belongs_to_the_machine(
    cluster: Cluster, tmp_path: Path
) -> None:
    node = Node(tmp_path / "node")
    assert cluster.join(node, "--node-name", "third", "--ssh", "127.0.0.1:2299").returncode == 0
    (node.data / "keys" / "master.key").unlink()
    (node.data / "mainstay.toml").write_text(
        'node_name = "third"\nssh = "127.0.0.1:2299"\nredis_url = "old"\n'
    )
    done = cluster.join(node, "--ssh", "127.0.0.1:2300", "--json")
    assert json.loads(done.stdout)["repaired"] is True
    said = (node.data / "mainstay.toml").read_text()
    assert 'node_name = "third"' in said
    assert 'ssh = "127.0.0.1:2300"' in said
    assert "redis_url" not in said
    assert "redis_url" in (node.data / "mainstay.toml.before-join").read_text()
    assert (node.data / "keys" / "master.key").exists()


def test_a_directory_with_a_node_of_its_own_is_not_taken_over(cluster: Cluster, tmp_path: Path) -> None:
    node, token = Node(tmp_path / "alone"), cluster.token()
    node.data.mkdir()
    (node.data / "mainstay.db").touch()
    refused = cluster.join(node, token=token)
    assert refused.returncode == WRONG
    assert "holds a node of its own" in refused.stderr
    assert not (node.data / "keys").exists()
    assert cluster.join(node, "--force", token=token).returncode == 0, "and the token was not used up"


def test_a_directory_of_another_cluster_keeps_its_key(cluster: Cluster, tmp_path: Path) -> None:
    node = Node(tmp_path / "other")
    assert cluster.join(node).returncode == 0
    theirs = "SGVsbG8sIHRoaXMgaXMgYW5vdGhlciBjbHVzdGVyISE=\n"
    (node.data / "keys" / "master.key").write_text(theirs)
    (node.data / "instance_id").write_text("01JD6Q9Z4M8W3N5V7X2Y1B0CDE\n")
    refused = cluster.join(node)
    assert refused.returncode == WRONG
    assert "belongs to instance 01JD6Q9Z4M8W3N5V7X2Y1B0CDE" in refused.stderr
    assert (node.data / "keys" / "master.key").read_text() == theirs
    assert cluster.join(node, "--force").returncode == 0
    kept = (node.data / "keys").glob("master.key.*")
    assert [file.read_text() for file in kept] == [theirs]


def test_a_machine_that_cannot_reach_the_database_hears_it_at_once(cluster: Cluster, tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    done = cluster.join(node, "--database-url", f"{cluster.database}?port=1&connect_timeout=2")
    assert done.returncode == AWAY
    assert f"this machine is let in and its files are in {node.data}" in done.stderr


def test_a_machine_that_sees_another_store_hears_it_at_once(cluster: Cluster, tmp_path: Path) -> None:
    done = cluster.join(Node(tmp_path / "node"), "--object-store", str(tmp_path / "not-mounted"))
    assert done.returncode == AWAY
    assert "is its disk mounted?" in done.stderr


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:1", AWAY, "nobody answers"),
        ("127.0.0.1:8080", 2, "is not http://HOST:PORT"),
        ("ftp://127.0.0.1", 2, "is not http://HOST:PORT"),
    ],
)
def test_a_wrong_address_is_one_sentence(tmp_path: Path, url: str, code: int, said: str) -> None:
    token = "mjt_01JD6Q9Z4M8W3N5V7X2Y1B0CDE_" + "0" * 64
    done = Node(tmp_path / "node").run("join", url, "--token", token, check=False)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


# Those in between
@dataclass
class InBetween:
    """Answers in the place of the cluster, and remembers what it was told."""

    answer: bytes
    status: int = 200
    heard: bytes = b""
    url: str = field(init=False)

    def __enter__(self) -> Self:
        spy = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                spy.heard += self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(spy.status)
                self.send_header("Content-Length", str(len(spy.answer)))
                if spy.status == 302:
                    self.send_header("Location", "https://git.example.org/-/join")
                self.end_headers()
                self.wfile.write(spy.answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Answering)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_who_listens_or_answers_in_between_gets_nothing(cluster: Cluster, tmp_path: Path) -> None:
    token, node = cluster.token(), Node(tmp_path / "node")
    with InBetween(json.dumps({"sealed": "AAAA" * 40}).encode()) as spy:
        done = node.run("join", spy.url, "--token", token, check=False)
    assert done.returncode == 2
    assert "not made for this token, or was changed on the way" in done.stderr
    assert token.rpartition("_")[2].encode() not in spy.heard
    assert not (node.data / "keys").exists()
    assert not (node.data / "mainstay.toml").exists()
    assert cluster.join(node, token=token).returncode == 0, "the cluster never saw the token"


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (200, b"<html>It works!</html>", "no node of Mainstay"),
        (302, b"", "leads to https://git.example.org/-/join: give that address"),
        (404, b"nothing", "answers 404"),
        (502, b'{"message": "no upstream"}', "answers 502: no upstream"),
    ],
)
def test_what_is_no_cluster_is_told_apart(tmp_path: Path, status: int, answer: bytes, said: str) -> None:
    token = "mjt_01JD6Q9Z4M8W3N5V7X2Y1B0CDE_" + "0" * 64
    with InBetween(answer, status) as other:
        done = Node(tmp_path / "node").run("join", other.url, "--token", token, check=False)
    assert done.returncode == AWAY
    assert said in done.stderr


# Who cannot be joined
def test_a_node_on_sqlite_says_the_way_out(tmp_path: Path, cluster: Cluster) -> None:
    node = Node(tmp_path / "alone")
    node.data.mkdir()
    done = node.run("node", "token", check=False)
    assert done.returncode == WRONG
    assert "move to PostgreSQL" in done.stderr
    node.environment = {"MAINSTAY_DATABASE_URL": cluster.database}
    done = node.run("node", "token", check=False)
    assert done.returncode == WRONG
    assert "move to S3 or to a directory that all nodes mount" in done.stderr


@pytest.mark.parametrize("ttl", ["", "1w", "0h", "-1h", "8d", "1"])
def test_a_strange_length_of_life_is_refused(cluster: Cluster, ttl: str) -> None:
    done = cluster.first.run("node", "token", "--ttl", ttl, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("mainstay: ")


# Who may not start
def refusal(node: Node) -> str:
    """Start a node that must refuse, and return its sentence."""
    with pytest.raises(NodeFailed, match=f"ended with {WRONG} before"):
        node.start()
    node.kill()
    sentences = [line for line in node.log.read_text().splitlines() if line.startswith("mainstay: ")]
    return sentences[-1]


@pytest.fixture
def stray(cluster: Cluster, tmp_path: Path) -> Node:
    """A node of the cluster that does not run: a test may break it."""
    node = Node(tmp_path / "stray")
    done = cluster.join(node)
    assert done.returncode == 0, done.stderr
    return node


def test_a_machine_without_the_master_key_is_told_to_join(cluster: Cluster, tmp_path: Path) -> None:
    told = {**cluster.first.environment}
    said = refusal(Node(tmp_path / "stranger", environment=told))
    assert "let this machine in with `mainstay join URL --token TOKEN`" in said
    assert not (tmp_path / "stranger" / "keys").exists()


def test_a_node_with_another_master_key_is_refused(stray: Node) -> None:
    (stray.data / "keys" / "master.key").write_text("SGVsbG8sIHRoaXMgaXMgYW5vdGhlciBjbHVzdGVyISE=\n")
    said = refusal(stray)
    assert re.search(r"the database has master key [0-9a-f]{16}, this node has [0-9a-f]{16}: put the", said)


def test_a_node_with_another_database_is_refused(stray: Node, cluster: Cluster) -> None:
    stray.environment = {"MAINSTAY_DATABASE_URL": cluster.postgres.url(cluster.postgres.create_database())}
    said = refusal(stray)
    assert "the database is empty, but this data directory belongs to instance" in said
    assert "correct `database_url`" in said


def test_a_node_with_another_store_is_refused(stray: Node, moto: S3Server) -> None:
    stray.environment = {"MAINSTAY_OBJECT_STORE": moto.url("another")}
    with pytest.raises(NodeFailed, match=f"ended with {AWAY} before"):
        stray.start()
    assert "is this the right store" in stray.log_end()


def test_a_program_that_is_too_old_for_the_tables_is_refused(stray: Node, cluster: Cluster) -> None:
    ((floor, current),) = cluster.sql("SELECT release, current FROM cluster_schema_floor")
    try:
        cluster.sql("UPDATE cluster_schema_floor SET release = 98, current = 99")
        assert "need a program of schema release 98 or later" in refusal(stray)
    finally:
        cluster.sql("UPDATE cluster_schema_floor SET release = %s, current = %s", floor, current)


# Secrets that change and move
def test_a_new_master_key_reaches_nodes_that_run_and_nodes_that_rest(cluster: Cluster, stray: Node) -> None:
    before = (cluster.joined.data / "keys" / "master.key").read_text()
    done = json.loads(cluster.first.run("secrets", "rotate", "master", "--json").stdout)
    assert done["wrapped"] > 3
    listed = json.loads(cluster.joined.run("secrets", "list", "--json").stdout)
    assert {each["master_key"] for each in listed if "after" not in each["name"]} == {done["after"]}
    cluster.joined.kill_process("ssh")
    token = cluster.joined.run("node", "token", check=True).stdout.strip()
    cluster.joined.restart()
    stray.start()
    try:
        for node in (cluster.joined, stray):
            keys = (node.data / "keys" / "master.key").read_text()
            assert keys != before
            assert keys.endswith(before), "the old key is kept for older backups"
            assert fingerprints(node) == fingerprints(cluster.first)
    finally:
        stray.kill()
    ended = json.loads(cluster.joined.run("secrets", "rotate", "master", "--finish", "--json").stdout)
    assert ended == {"ended": 1}
    assert token.startswith("mjt_")


def test_the_tokens_between_nodes_are_rotated_but_not_twice_at_once(cluster: Cluster) -> None:
    assert json.loads(cluster.first.run("secrets", "rotate", "rpc", "--json").stdout) == {"rotated": "rpc"}
    again = cluster.first.run("secrets", "rotate", "rpc", check=False)
    assert again.returncode == WRONG
    assert "within the last minute" in again.stderr


def test_nothing_is_forgotten_under_running_nodes(cluster: Cluster, stray: Node) -> None:
    before = cluster.sql("SELECT name FROM cluster_secret ORDER BY name")
    for node, said in ((cluster.first, "already uses"), (stray, "these nodes still run")):
        refused = node.run("secrets", "reset", "--forget-all", check=False)
        assert refused.returncode == WRONG
        assert said in refused.stderr
    assert cluster.sql("SELECT name FROM cluster_secret ORDER BY name") == before


def test_secrets_that_an_older_version_kept_in_plain_text_are_wrapped(tmp_path: Path) -> None:
    """As version 0.1 left it: no master key, plain host keys among the settings."""
    told = {"MAINSTAY_DATA_PROCESSES": "1", "MAINSTAY_DRAIN_NOTICE_SECONDS": "0"}
    with Node(tmp_path / "node", environment=told) as node:
        before = fingerprints(node)
        plain = host_keys_of(node)
        node.stop()
        database = sqlite3.connect(node.data / "mainstay.db")
        database.execute("DELETE FROM cluster_secret")
        database.execute("DELETE FROM cluster_schema_floor")
        database.execute("UPDATE instance_setting SET value = 'older' WHERE key = 'prepared_for'")
        database.executemany("INSERT INTO instance_setting (key, value) VALUES (?, ?)", plain)
        database.execute("INSERT INTO instance_setting (key, value) VALUES ('secret_key', 'signed before')")
        database.commit()
        shutil.rmtree(node.data / "keys")
        (node.data / "instance_id").unlink()
        node.start()
        assert fingerprints(node) == before
        left = [key for (key,) in database.execute("SELECT key FROM instance_setting")]
        database.close()
    assert sorted(left) == ["instance_id", "prepared_for"]
    everything = (tmp_path / "node" / "mainstay.db").read_bytes()
    assert b"OPENSSH PRIVATE KEY" not in everything


def host_keys_of(node: Node) -> list[tuple[str, str]]:
    """The host keys, opened with the master key of the node."""
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from mainstay.cluster.keyring import KeyFile\n"
        "from mainstay.cluster.secrets import Secrets\n"
        "from mainstay.foundation.clock import SYSTEM\n"
        "from mainstay.storage.database.sqlite import SqliteDatabase\n"
        "data = Path(sys.argv[1])\n"
        "secrets = Secrets(SqliteDatabase(str(data / 'mainstay.db')), KeyFile(data), SYSTEM)\n"
        "names = ['ssh_host_key/ssh-ed25519', 'ssh_host_key/ssh-rsa']\n"
        "print(json.dumps([[name, secrets.get(name)] for name in names]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(node.data)], capture_output=True, text=True, check=True, timeout=60
    )
    return [(name, value) for name, value in json.loads(done.stdout)]
