"""One node, from its first start to its last breath, as an operator meets it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.node import Node, NodeFailed
from support.process_tree import descendants

RSS_MIB_MAX = 200


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node for tests that do it no harm."""
    with Node(tmp_path_factory.mktemp("serve") / "node") as node:
        yield node


def wait_until(question: Callable[[], bool], *, within_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not question():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


def git(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )


def repository_in(directory: Path) -> Path:
    """A repository with one commit on `main`."""
    directory.mkdir()
    git("init", "-q", "-b", "main", cwd=directory)
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    git(*identity, "commit", "-q", "--allow-empty", "-m", "first", cwd=directory)
    return directory


# Starting
def test_the_first_start_tells_what_to_type_next(running: Node) -> None:
    wait_until(lambda: "git push" in running.output.read_text())
    said = running.output.read_text()
    assert running.url in said
    assert str(running.ssh_port) in said
    password_file = running.data / "initial_root_password"
    assert str(password_file) in said
    assert password_file.stat().st_mode & 0o777 == 0o600
    assert running.root_password() not in said


def test_what_it_says_to_type_works(running: Node, tmp_path: Path) -> None:
    work = repository_in(tmp_path / "work")
    pushed = git("push", running.clone_url("root/engine"), "main", cwd=work)
    assert pushed.returncode == 0, pushed.stderr
    assert "private project root/engine was created" in pushed.stderr
    cloned = git("clone", "-q", running.clone_url("root/engine"), "copy", cwd=tmp_path)
    assert cloned.returncode == 0, cloned.stderr
    heads = [git("rev-parse", "HEAD", cwd=place).stdout for place in (work, tmp_path / "copy")]
    assert heads[0] == heads[1]


def test_nobody_else_can_look_into_the_data_directory(running: Node) -> None:
    assert running.data.stat().st_mode & 0o077 == 0
    assert (running.data / "run" / "settings.json").stat().st_mode & 0o077 == 0


def test_a_second_serve_on_the_same_data_is_refused(running: Node) -> None:
    done = running.run("serve", "--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0", check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("mainstay: a `mainstay serve` (process ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--http", "--ssh"])
def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(NodeFailed) as failed,
            Node(tmp_path / "node", options=[option, f"127.0.0.1:{port}"]),
        ):
            pass
    assert (
        f"mainstay: 127.0.0.1:{port} is already in use by another program; choose another with {option}"
        in str(failed.value)
    )
    assert "ended with 6" in str(failed.value)


def test_bad_settings_are_told_all_at_once_before_anything_starts(tmp_path: Path) -> None:
    environment = {"MAINSTAY_WEB_THREADS": "many", "MAINSTAY_DATABASE_URL": "mysql://x"}
    with pytest.raises(NodeFailed) as failed, Node(tmp_path / "node", environment=environment):
        pass
    assert "web_threads" in str(failed.value)
    assert "database_url" in str(failed.value)
    assert not (tmp_path / "node").exists()


def test_the_store_of_another_instance_is_refused(running: Node, tmp_path: Path) -> None:
    environment = {"MAINSTAY_OBJECT_STORE": str(running.data / "objects")}
    with (
        pytest.raises(NodeFailed, match="the object store belongs to instance"),
        Node(tmp_path / "other", environment=environment),
    ):
        pass


# Running
def test_idle_processes_are_small(running: Node) -> None:
    sizes = {name: rss_mib(pid) for name, pid in running.pids().items()}
    assert max(sizes.values()) <= RSS_MIB_MAX, sizes


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def test_health_answers_in_the_shapes_that_balancers_know(running: Node) -> None:
    assert running.get("/-/health") == (200, b"Mainstay OK")
    status, body = running.get("/-/readiness")
    assert (status, json.loads(body)) == (200, {"status": "ok", "master_check": [{"status": "ok"}]})
    status, body = running.get("/-/readiness?all=1")
    checks = json.loads(body)
    assert (status, checks["status"]) == (200, "ok")
    assert {"db_check", "object_store_check"} <= checks.keys()
    assert checks["db_check"][0]["latency_ms"] >= 0
    assert json.loads(running.get("/-/liveness")[1]) == {"status": "ok"}
    assert running.get("/health_check") == (200, b"success")
    assert json.loads(running.get("/health_check/database.json")[1]) == {
        "healthy": True,
        "message": "success",
    }
    assert json.loads(running.get("/status")[1]) == {"role": "single", "maintenance": False, "lag_s": 0.0}


def test_a_stranger_cannot_tell_that_there_are_health_pages(tmp_path: Path) -> None:
    environment = {
        "MAINSTAY_MONITORING_ALLOWLIST": "192.0.2.0/24",
        "MAINSTAY_HEALTH_TOKEN": "s3cr3t",
        "MAINSTAY_TRUSTED_PROXIES": "127.0.0.1",
    }
    node = Node(tmp_path / "node", environment=environment)
    with node:
        for path in ("/-/health", "/-/readiness", "/-/liveness", "/-/metrics", "/health_check"):
            assert node.get(path) == (404, b"")
            assert node.get(f"{path}?token=wrong") == (404, b"")
            assert node.get(f"{path}?token=s3cr3t")[0] == 200
            assert node.get(path, headers={"TOKEN": "s3cr3t"})[0] == 200
            assert node.get(path, headers={"X-Forwarded-For": "192.0.2.7"})[0] == 200
        assert node.get("/status")[0] == 200


def test_metrics_count_what_all_processes_did(running: Node) -> None:
    running.get("/")
    text = running.get("/-/metrics")[1].decode()
    assert 'mainstay_build_info{version="' in text
    assert 'mainstay_http_requests_total{door="web",status="2xx"}' in text
    assert "mainstay_ssh_open_connections" in text, "declared by another process than the one that answers"


def test_one_request_id_follows_a_request_from_door_to_log(running: Node) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.http_port, timeout=30)
    connection.request(
        "GET", "/root/nothing.git/info/refs?service=git-upload-pack", headers={"X-Request-Id": "mine"}
    )
    answer = connection.getresponse()
    answer.read()
    connection.close()
    request_id = answer.headers["x-request-id"]
    assert request_id != "mine", "a stranger does not choose what stands in our log"
    wait_until(lambda: any(line.get("request_id") == request_id for line in running.log_lines()))
    assert len(answer.headers.get_all("x-request-id") or []) == 1


def test_go_get_finds_repositories_two_levels_down_only(running: Node) -> None:
    meta = b'<meta name="go-import" content="127.0.0.1:%d/ada/engine git' % running.http_port
    status, body = running.get("/ada/engine?go-get=1")
    assert (status, meta in body) == (200, True)
    assert running.get("/ada?go-get=1")[0] == 404
    assert running.get("/ada/engine")[0] == 404


def test_encoded_slashes_reach_the_api(running: Node, tmp_path: Path) -> None:
    work = repository_in(tmp_path / "work")
    assert git("push", running.clone_url("root/slashes"), "main", cwd=work).returncode == 0
    token = running.token(name="slashes")
    status, body = running.get("/api/v4/projects/root%2Fslashes", headers={"PRIVATE-TOKEN": token})
    assert (status, json.loads(body)["path_with_namespace"]) == (200, "root/slashes")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nx: " + b"a" * 200_000,
        b"NONSENSE\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=["endless-head", "nonsense", "raw-bytes"],
)
def test_malformed_requests_are_refused_and_leave_no_mark(running: Node, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.http_port), timeout=20) as line:
        line.sendall(request_bytes)
        answer = line.recv(4096)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    assert running.get("/-/health")[0] == 200


def test_the_command_line_knows_how_the_node_is(running: Node) -> None:
    shown = json.loads(running.run("status", "--json").stdout)
    assert shown["node"]["phase"] == "ready"
    assert {"serve", "data", "web", "ssh", "worker"} <= shown["node"]["processes"].keys()
    assert (shown["verdict"], shown["problems"]) == ("ok", [])
    assert [node["state"] for node in shown["nodes"]] == ["ready"]
    checked = json.loads(running.run("check", "--json").stdout)
    assert checked["verdict"] in ("ok", "warning")
    names = [point["name"] for point in json.loads(running.run("debug", "failpoints", "--json").stdout)]
    assert "push.committed" in names


# Losing and ending
@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node for tests that kill parts of it, and leave it running."""
    environment = {"MAINSTAY_DRAIN_NOTICE_SECONDS": "2"}
    with Node(tmp_path_factory.mktemp("mortal") / "node", environment=environment) as node:
        yield node


@pytest.mark.parametrize("name", ["web", "data", "ssh", "worker"])
def test_a_killed_process_comes_back(mortal: Node, name: str) -> None:
    before = mortal.pids()[name]
    mortal.kill_process(name)

    def is_back() -> bool:
        process = mortal.state()["processes"].get(name)
        return process is not None and process["pid"] != before and process["ready"]

    wait_until(is_back)
    assert mortal.get("/")[0] == 200


def test_a_page_asked_for_while_web_restarts_is_late_but_no_error(mortal: Node) -> None:
    workers = [Path(f"/proc/{pid}") for pid in descendants([mortal.pids()["web"]])]
    mortal.kill_process("web")
    wait_until(lambda: not any(each.exists() for each in workers), within_s=20)  # one dies a moment later
    assert mortal.get("/")[0] == 200


def name_of(pid: int) -> str:
    """What `ps` shows."""
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")


def nursery_of(node: Node) -> int | None:
    """None: there is none at the moment."""
    supervisor = node.pids()["serve"]
    for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        try:
            if name_of(int(pid)) == "mainstay-nursery":
                return int(pid)
        except FileNotFoundError:
            continue
    return None


def test_a_killed_nursery_is_missed_by_nobody_and_replaced_when_it_is_needed(mortal: Node) -> None:
    before = nursery_of(mortal)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    assert mortal.get("/")[0] == 200
    mortal.kill_process("worker")
    wait_until(
        lambda: (
            mortal.state()["processes"].get("worker", {}).get("ready", False)
            and nursery_of(mortal) not in (None, before)
        ),
        within_s=60,
    )


def test_processes_have_names_for_who_looks(mortal: Node) -> None:
    for name in ("data", "web", "ssh", "worker"):
        pid = mortal.pids()[name]
        assert name_of(pid) == Path(f"/proc/{pid}/comm").read_text().strip() == f"mainstay-{name}"


def test_when_the_supervisor_is_killed_all_follow_and_the_next_start_works(mortal: Node) -> None:
    mortal.kill()
    assert _refuses(mortal.http_port)
    mortal.start()
    assert mortal.get("/-/readiness")[0] == 200


@pytest.fixture
def half_sent(mortal: Node, tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    """A fetch that is admitted, and of whose body two of four bytes have come."""
    work = repository_in(tmp_path / "work")
    assert git("push", "--force", mortal.clone_url("root/engine"), "main", cwd=work).returncode == 0
    line = http.client.HTTPConnection("127.0.0.1", mortal.http_port, timeout=60)
    line.putrequest("POST", "/root/engine.git/git-upload-pack")
    credentials = b64encode(f"root:{mortal.root_password()}".encode()).decode()
    line.putheader("Authorization", f"Basic {credentials}")
    line.putheader("Content-Type", "application/x-git-upload-pack-request")
    line.putheader("Content-Length", "4")
    line.endheaders(b"00")
    wait_until(lambda: b"mainstay_githttp_open_requests 1.0" in mortal.get("/-/metrics")[1])
    yield line
    line.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_is_under_way(
    mortal: Node, half_sent: http.client.HTTPConnection, number: signal.Signals
) -> None:
    """Readiness says 503 first; then nothing listens any more; what was begun is answered."""
    codes: list[int] = []
    stopping = threading.Thread(target=lambda: codes.append(mortal.stop(number=number)))
    stopping.start()
    wait_until(lambda: mortal.get("/-/readiness")[0] == 503)
    wait_until(lambda: _refuses(mortal.http_port))
    assert not codes
    half_sent.send(b"00")
    answer = half_sent.getresponse()
    assert answer.status == 200
    assert answer.headers["connection"] == "close"
    answer.read()
    stopping.join(60)
    assert codes == [0]
    mortal.start()


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_second_signal_stops_at_once(mortal: Node, half_sent: http.client.HTTPConnection) -> None:
    serve = mortal.pids()["serve"]
    stopping = threading.Thread(target=lambda: mortal.stop(number=signal.SIGINT))
    stopping.start()
    wait_until(lambda: mortal.state().get("phase") == "draining")
    began_s = time.monotonic()
    os.kill(serve, signal.SIGINT)
    stopping.join(30)
    assert not stopping.is_alive()
    assert time.monotonic() - began_s < 25, "far less than drain_seconds"
    with pytest.raises((http.client.HTTPException, OSError)):
        half_sent.getresponse()
    mortal.start()
