"""The SSH door alone against clients that are slow, silent, many or greedy, and its stop in good order."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from mainstay.repository.streams import ByteSink, ByteSource
from support.fake_gate import ADA, ROBOT
from support.git_client import GitClient
from support.ssh_door import SshDoor, ssh_door

_CHUNK = bytes(256 * 1024)
PATIENCE_S = 20.0
"""What must end by itself does so long before; what would not never does."""


class Talker:
    """Upload-pack sends for ever, or says one line and waits for the client to end; receive-pack counts."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.ended = 0

    async def upload_pack(
        self, _repository_id: int, *, version: int, stateless: bool, source: ByteSource, sink: ByteSink
    ) -> None:
        assert not stateless
        try:
            if version == 2:
                await sink.write(b"ready\n")
                while await source.read():
                    pass
                await sink.write(b"done\n")
                return
            while True:
                await sink.write(_CHUNK)
                self.sent_bytes += len(_CHUNK)
        finally:
            self.ended += 1

    async def receive_pack(
        self, _repository_id: int, *, sink: ByteSink, source: ByteSource, **_rest: Any
    ) -> None:
        size = 0
        while piece := await source.read():
            assert len(piece) <= 1024 * 1024
            size += len(piece)
        await sink.write(f"{size} bytes\n".encode())


@pytest.fixture
def ada(tmp_path: Path) -> GitClient:
    return GitClient(tmp_path / "ada", GitClient(tmp_path / "ada").new_key())


def let_in(door: SshDoor, git: GitClient) -> None:
    assert git.key
    door.admit(git.key.with_suffix(".pub").read_text(), ADA)


def silent_connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=2 * PATIENCE_S)


def seconds_until_closed(connection: socket.socket) -> float:
    started_s = time.monotonic()
    while connection.recv(4096):
        pass
    return time.monotonic() - started_s


@pytest.fixture
def connections() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for each in opened:
        each.close()


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-slow\r\n", b"SSH-2.0-slow\r\n\0\0\0"])
def test_half_a_handshake_is_cut(said: bytes) -> None:
    with ssh_door(Talker(), handshake_s_max=0.3) as door, silent_connection(door.port) as connection:
        connection.sendall(said)
        assert seconds_until_closed(connection) < PATIENCE_S


def test_who_never_signs_in_is_cut() -> None:
    """The key exchange is done, then nothing more comes."""

    async def linger(port: int) -> float:
        started_s = time.monotonic()
        with pytest.raises(asyncssh.Error):
            await asyncssh.connect(
                "127.0.0.1",
                port,
                username="git",
                known_hosts=None,
                client_factory=_NeverAnswers,
                config=None,
                client_keys=None,
                agent_path=None,
                preferred_auth="publickey",
            )
        return time.monotonic() - started_s

    class _NeverAnswers(asyncssh.SSHClient):
        async def public_key_auth_requested(self) -> None:
            await asyncio.sleep(10 * PATIENCE_S)

    with ssh_door(Talker(), login_s_max=0.5) as door:
        assert asyncio.run(linger(door.port)) < PATIENCE_S


def test_strangers_are_limited_and_those_who_signed_in_are_not_their_victims(
    ada: GitClient, connections: list[socket.socket]
) -> None:
    with ssh_door(
        Talker(), connections_before_login_max=3, connections_before_login_per_address_max=3
    ) as door:
        let_in(door, ada)
        assert ada.try_ssh(port=door.port).code == 0
        connections += [silent_connection(door.port) for _ in range(3)]
        assert all(each.recv(4) == b"SSH-" for each in connections)
        with silent_connection(door.port) as fourth:
            assert b"SSH-" not in fourth.recv(100)
        connections.pop().close()
        deadline_s = time.monotonic() + 10
        while ada.try_ssh(port=door.port).code != 0:
            assert time.monotonic() < deadline_s


def test_one_connection_has_a_limit_of_sessions(ada: GitClient) -> None:
    async def open_three(port: int) -> list[str]:
        async with asyncssh.connect(
            "127.0.0.1", port, username="git", known_hosts=None, client_keys=[str(ada.key)], config=None
        ) as connection:
            opened = []
            for _ in range(2):
                process = await connection.create_process(
                    "git-upload-pack '/ada/engine'", env={"GIT_PROTOCOL": "version=2"}
                )
                opened.append((await process.stdout.readline()).strip())
            try:
                await connection.create_process("git-upload-pack '/ada/engine'")
            except asyncssh.ChannelOpenError:
                opened.append("refused")
            return opened

    with ssh_door(Talker(), sessions_per_connection_max=2) as door:
        let_in(door, ada)
        assert asyncio.run(open_three(door.port)) == ["ready", "ready", "refused"]


def test_only_git_protocol_is_taken_from_the_environment(ada: GitClient) -> None:
    async def ask(port: int) -> list[bool]:
        async with asyncssh.connect(
            "127.0.0.1", port, username="git", known_hosts=None, client_keys=[str(ada.key)], config=None
        ) as connection:
            answers = []
            for env in ({"GIT_PROTOCOL": "version=2"}, {"LD_PRELOAD": "x"}, {"GIT_PROTOCOL": "x" * 300}):
                channel, _ = await connection.create_session(
                    asyncssh.SSHClientSession,
                    command="git-upload-pack '/ada/engine'",  # waits, so that the session is still there
                    env={"GIT_PROTOCOL": "version=2"},
                    encoding=None,
                )
                name, value = next(iter(env.items()))
                answers.append(
                    await channel._make_request(
                        b"env", *(asyncssh.packet.String(each) for each in (name, value))
                    )
                )
                channel.abort()
            return answers

    with ssh_door(Talker()) as door:
        let_in(door, ada)
        assert asyncio.run(ask(door.port)) == [True, False, False]


def test_a_session_without_a_command_is_cut(ada: GitClient) -> None:
    async def wait_silently(port: int) -> None:
        async with asyncssh.connect(
            "127.0.0.1", port, username="git", known_hosts=None, client_keys=[str(ada.key)], config=None
        ) as connection:
            channel = connection.create_tcp_channel(encoding=None)
            await channel._open(b"session")
            async with asyncio.timeout(5):
                await channel.wait_closed()

    with ssh_door(Talker(), command_s_max=0.3) as door:
        let_in(door, ada)
        asyncio.run(wait_silently(door.port))


def test_a_silent_conversation_is_cut_without_an_exit_code(ada: GitClient) -> None:
    with ssh_door(Talker(), idle_s_max=0.3) as door:
        let_in(door, ada)
        process = subprocess.Popen(
            [
                *ada.ssh,
                "-o",
                "SendEnv=GIT_PROTOCOL",
                "-p",
                str(door.port),
                "git@127.0.0.1",
                "git-upload-pack /ada/engine",
            ],
            env={**ada.environment, "GIT_PROTOCOL": "version=2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdout
            assert process.stdout.read() == b"ready\n"
            assert process.wait(10) == 255


def test_a_client_that_does_not_read_stops_the_server_from_sending(ada: GitClient) -> None:
    """Whatever window it announces: the socket counts, too, else the server would keep it all in memory."""

    async def announce_much_and_read_nothing(port: int, talker: Talker) -> int:
        connection = await asyncssh.connect(
            "127.0.0.1", port, username="git", known_hosts=None, client_keys=[str(ada.key)], config=None
        )
        await connection.create_session(
            asyncssh.SSHClientSession, "git-upload-pack '/ada/engine'", encoding=None, window=1 << 31
        )
        connection._transport.pause_reading()  # type: ignore[union-attr]
        before = -1
        while before != talker.sent_bytes:
            before = talker.sent_bytes
            await asyncio.sleep(0.5)
        connection.abort()
        await connection.wait_closed()
        return before

    talker = Talker()
    with ssh_door(talker) as door:
        let_in(door, ada)
        sent = asyncio.run(announce_much_and_read_nothing(door.port, talker))
        assert sent < 64 * 1024 * 1024
        wait_until(lambda: talker.ended == 1)


def test_a_client_that_hangs_up_stops_the_work(ada: GitClient) -> None:
    talker = Talker()
    with ssh_door(talker) as door:
        let_in(door, ada)
        process = subprocess.Popen(
            [*ada.ssh, "-p", str(door.port), "git@127.0.0.1", "git-upload-pack /ada/engine"],
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdout
            assert len(process.stdout.read(1 << 20)) == 1 << 20
            process.kill()
        wait_until(lambda: talker.ended == 1)


def test_a_large_push_arrives_whole(ada: GitClient) -> None:
    with ssh_door(Talker()) as door:
        let_in(door, ada)
        done = subprocess.run(
            [*ada.ssh, "-p", str(door.port), "git@127.0.0.1", "git-receive-pack /ada/engine"],
            input=bytes(20_000_000),
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, b"20000000 bytes\n")


def test_a_stop_lets_sessions_finish(ada: GitClient) -> None:
    talker = Talker()
    with ssh_door(talker) as door:
        let_in(door, ada)
        process = _conversation(ada, door.port)
        with process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            port = door.port
            stopping = asyncio.run_coroutine_threadsafe(door.server.stop(drain_s=20), door.loop)
            wait_until(lambda: door.server._crowd.closing)
            assert _is_refused(port)
            process.stdin.close()
            assert process.stdout.readline() == b"done\n"
            assert process.wait(10) == 0
            stopping.result(10)


def test_a_stop_does_not_wait_for_ever(ada: GitClient) -> None:
    talker = Talker()
    with ssh_door(talker) as door:
        let_in(door, ada)
        process = _conversation(ada, door.port)
        with process:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            started_s = time.monotonic()
            door.stop(drain_s=0.2)
            assert time.monotonic() - started_s < PATIENCE_S
            assert process.wait(10) == 255
        wait_until(lambda: talker.ended == 1)


def test_a_deploy_key_is_greeted_by_its_title(ada: GitClient) -> None:
    with ssh_door(Talker()) as door:
        assert ada.key
        door.admit(ada.key.with_suffix(".pub").read_text(), ROBOT)
        assert ada.try_ssh(port=door.port).out == "Welcome to Mainstay, deploy key 'build machine'!\n"
        pushed = ada.try_ssh("git-receive-pack '/ada/engine'", port=door.port)
        assert (pushed.code, pushed.err) == (1, "ERROR: this deploy key may only read\n")


def test_a_bug_is_told_by_its_request_id_only(ada: GitClient) -> None:
    with ssh_door(Talker()) as door:
        let_in(door, ada)
        door.gate.broken = RuntimeError("secret detail")
        done = ada.try_ssh("git-upload-pack '/ada/engine'", port=door.port)
        assert done.code == 1
        assert done.err.startswith("ERROR: internal error, request id ")
        assert "secret" not in done.err


def test_the_algorithms_are_few_and_modern(ada: GitClient) -> None:
    with ssh_door(Talker()) as door:
        let_in(door, ada)
        for wrong in (
            "KexAlgorithms=ecdh-sha2-nistp256",
            "KexAlgorithms=diffie-hellman-group14-sha256",
            "Ciphers=chacha20-poly1305@openssh.com",
            "Ciphers=aes128-cbc",
            "HostKeyAlgorithms=ssh-rsa",
            "HostKeyAlgorithms=ecdsa-sha2-nistp256",
        ):
            done = ada.try_ssh("-v", "-o", wrong, port=door.port)
            assert "no matching" in done.err, wrong
        old_mac = ada.try_ssh("-v", "-o", "Ciphers=aes256-ctr", "-o", "MACs=hmac-sha2-256", port=door.port)
        assert "no matching MAC" in old_mac.err
        for right in (
            "HostKeyAlgorithms=rsa-sha2-512",
            "Ciphers=aes256-gcm@openssh.com",
            "Ciphers=aes256-ctr",
        ):
            assert ada.try_ssh("-o", right, port=door.port).code == 0, right


def wait_until(is_so: Any, *, seconds_max: float = 10.0) -> None:
    deadline_s = time.monotonic() + seconds_max
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not come to pass"
        time.sleep(0.02)


def _conversation(git: GitClient, port: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [
            *git.ssh,
            "-o",
            "SendEnv=GIT_PROTOCOL",
            "-p",
            str(port),
            "git@127.0.0.1",
            "git-upload-pack /ada/engine",
        ],
        env={**git.environment, "GIT_PROTOCOL": "version=2"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _is_refused(port: int) -> bool:
    try:
        silent_connection(port).close()
    except ConnectionRefusedError:
        return True
    return False
