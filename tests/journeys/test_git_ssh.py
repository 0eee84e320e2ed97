"""Git over SSH: the greeting, what is refused, keys of people and machines, and clients that misbehave."""

import socket
import subprocess
import time
from itertools import count
from pathlib import Path

import pytest

from support.git_client import GitClient
from support.node import Node
from support.people import Person, project_id

_numbers = count(1)


@pytest.fixture(scope="module")
def work(ada: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ada.git.repository(tmp_path_factory.mktemp("ssh") / "work")


@pytest.fixture
def path(ada: Person, work: Path) -> str:
    path = f"ada/ssh-{next(_numbers)}"
    ada.git("push", "--quiet", ada.ssh_url(path), "main", cwd=work)
    return path


def test_ssh_greets_by_name(ada: Person, node: Node) -> None:
    done = ada.git.try_ssh(port=node.ssh_port)
    assert (done.code, done.out, done.err) == (0, "Welcome to Mainstay, @ada!\n", "")
    with_terminal = ada.git.try_ssh("-tt", port=node.ssh_port)
    assert "PTY allocation request failed" in with_terminal.err


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (("-t", "rsa", "-b", "2048"), "rsa"),
        (("-t", "ecdsa"), "ecdsa"),
        (("-t", "ed25519"), "ed25519"),
    ],
)
def test_keys_of_every_usual_kind_work(
    ada: Person, node: Node, tmp_path: Path, options: tuple[str, ...], kind: str
) -> None:
    key = GitClient(tmp_path).new_key(kind, *options)
    git = GitClient(tmp_path, key)
    assert git.try_ssh(port=node.ssh_port).code == 255
    ada.must("POST", "user/keys", {"title": kind, "key": key.with_suffix(".pub").read_text()})
    assert git.try_ssh(port=node.ssh_port).out == "Welcome to Mainstay, @ada!\n"


def test_only_the_user_git_is_known(ada: Person, node: Node) -> None:
    done = ada.git.try_ssh(port=node.ssh_port, user="root")
    assert done.code == 255
    assert "Permission denied (publickey)" in done.err


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "git-upload-pack",
        "git-upload-pack '/ada/x' '/ada/y'",
        "git-upload-pack '/ada/x'; id",
        "git-upload-pack $(id)",
        "git-upload-pack --help",
        "git-shell",
        "bash -c id",
        "scp -f /etc/passwd",
        "'git-upload-pack",
    ],
)
def test_there_is_no_shell(ada: Person, node: Node, command: str) -> None:
    done = ada.git.try_ssh(command, port=node.ssh_port)
    assert done.code in {1, 127}
    assert done.err.startswith("ERROR: ")
    assert done.out == ""


@pytest.mark.parametrize(
    "command",
    [
        "git-lfs-authenticate ada/x.git download",
        "git-lfs-transfer ada/x.git upload",
        "git-upload-archive '/ada/x'",
    ],
)
def test_what_is_not_offered_is_refused_with_a_sentence(ada: Person, node: Node, command: str) -> None:
    done = ada.git.try_ssh(command, port=node.ssh_port)
    assert done.code == 1
    assert "not offered" in done.err


def test_files_cannot_be_transferred(ada: Person, node: Node) -> None:
    done = ada.git.try_ssh("-s", "sftp", port=node.ssh_port)
    assert done.code != 0
    assert "subsystem request failed" in done.err


@pytest.mark.parametrize("option", ["-L0:127.0.0.1:1", "-R0:127.0.0.1:1"])
def test_ports_are_not_forwarded(ada: Person, node: Node, option: str) -> None:
    """-R is refused by the server at once; -L opens a listener here, of which the first use is refused."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if option.startswith("-R"):
        done = ada.git.try_ssh("-o", "ExitOnForwardFailure=yes", option, port=node.ssh_port)
        assert done.code == 255
        return
    process = subprocess.Popen(
        [
            *ada.git.ssh,
            "-v",
            "-N",
            "-p",
            str(node.ssh_port),
            f"-L{port}:127.0.0.1:{node.http_port}",
            "git@127.0.0.1",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        assert _answer_through(port) == b""
    finally:
        process.kill()
        process.wait()


def _answer_through(port: int) -> bytes:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(b"GET /-/liveness HTTP/1.0\r\n\r\n")
                return connection.recv(100)
        except ConnectionRefusedError:
            time.sleep(0.05)
        except ConnectionResetError:
            return b""
    raise AssertionError("ssh did not open its listener")


def test_a_stranger_learns_nothing(eve: Person, path: str, work: Path) -> None:
    seen, made_up = (eve.git.try_("ls-remote", eve.ssh_url(each)) for each in (path, "ada/made-up"))
    assert "ERROR: repository not found" in seen.err
    assert seen.err == made_up.err
    pushed = eve.git.try_("push", eve.ssh_url(path), "main", cwd=work)
    assert "ERROR: repository not found" in pushed.err


def test_the_address_may_be_written_in_the_usual_ways(ada: Person, node: Node, path: str) -> None:
    host = f"ssh://git@127.0.0.1:{node.ssh_port}"
    for written in (f"{host}/{path}.git", f"{host}/{path}", f"{host}/~/{path}.git"):
        assert ada.git.refs(written)
    for tricky in ("ada/../ada/x", "ada//x", "/etc/passwd/..", "ada"):
        assert "ERROR: " in ada.git.try_("ls-remote", f"{host}/{tricky}").err


def test_a_deploy_key_is_of_one_project_and_may_read_unless_it_was_given_more(
    ada: Person, node: Node, path: str, work: Path, tmp_path: Path
) -> None:
    key = GitClient(tmp_path).new_key()
    robot = GitClient(tmp_path, key)
    address = f"projects/{project_id(path)}/deploy_keys"
    made = ada.must("POST", address, {"title": "robot", "key": key.with_suffix(".pub").read_text()})
    assert robot.try_ssh(port=node.ssh_port).out == "Welcome to Mainstay, deploy key 'robot'!\n"
    assert robot.refs(node.ssh_url(path))
    refused = robot.try_("push", node.ssh_url(path), "main:by-robot", cwd=work)
    assert "ERROR: " in refused.err
    assert "not found" not in refused.err
    elsewhere = f"ada/ssh-{next(_numbers)}"
    ada.git("push", "--quiet", ada.ssh_url(elsewhere), "main", cwd=work)
    assert "repository not found" in robot.try_("ls-remote", node.ssh_url(elsewhere)).err
    ada.must("PUT", f"{address}/{made['id']}", {"can_push": True})
    robot("push", "--quiet", node.ssh_url(path), "main:by-robot", cwd=work)


def test_a_key_that_is_taken_away_is_of_no_use_on_an_open_connection(
    ada: Person, node: Node, path: str, tmp_path: Path
) -> None:
    key = GitClient(tmp_path).new_key()
    made = ada.must("POST", "user/keys", {"title": "short", "key": key.with_suffix(".pub").read_text()})
    git = GitClient(tmp_path, key)
    control = ["-o", "ControlMaster=auto", "-o", f"ControlPath={tmp_path / 'c'}", "-o", "ControlPersist=60"]
    git.ssh[1:1] = control
    assert git.try_ssh(port=node.ssh_port).code == 0
    try:
        assert git.try_ssh(f"git-upload-pack '/{path}'", port=node.ssh_port).out.startswith("01")
        ada.must("DELETE", f"user/keys/{made['id']}")
        refused = git.try_ssh(f"git-upload-pack '/{path}'", port=node.ssh_port)
        assert refused.code == 1
        assert refused.err.startswith("ERROR: ")
    finally:
        subprocess.run(
            [*git.ssh, "-O", "exit", "-p", str(node.ssh_port), "git@127.0.0.1"],
            check=False,
            capture_output=True,
        )


def test_a_client_that_hangs_up_in_a_push_changes_nothing(
    ada: Person, node: Node, path: str, work: Path
) -> None:
    before = ada.git.refs(ada.ssh_url(path))
    process = subprocess.Popen(
        [*ada.git.ssh, "-p", str(node.ssh_port), "git@127.0.0.1", f"git-receive-pack '/{path}'"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin
    assert process.stdout
    process.stdout.read(4)
    line = f"{'0' * 40} {before['HEAD']} refs/heads/half\0report-status"
    process.stdin.write(f"{len(line) + 4:04x}{line}0000PACK".encode())
    process.stdin.flush()
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        pipe.close()
    ada.git("push", "--quiet", ada.ssh_url(path), "main:after", cwd=work)
    assert set(ada.git.refs(ada.ssh_url(path))) == {*before, "refs/heads/after"}


def test_the_host_keys_survive_a_restart(tmp_path: Path) -> None:
    with Node(tmp_path / "node") as own:
        before = _scanned(own.ssh_port)
        own.restart()
        assert _scanned(own.ssh_port) == before
    kinds = {line.split()[1] for line in before}
    assert kinds == {"ssh-ed25519", "ssh-rsa"}


def _scanned(port: int) -> list[str]:
    done = subprocess.run(
        ["ssh-keyscan", "-p", str(port), "-t", "ed25519,rsa,ecdsa", "127.0.0.1"],
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(line for line in done.stdout.splitlines() if not line.startswith("#"))
