"""What is said on one SSH channel, with everything below and around it in memory."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mainstay.doors.ssh.conversation import Asked, Conversations
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.repository.push import PushContext
from mainstay.repository.streams import ByteSink, ByteSource, ClientGone
from support.fake_gate import ADA, EVE, FakeGate


class Line:
    """What the client sends, and what it hears."""

    def __init__(self, pieces: Sequence[bytes] = ()) -> None:
        self.pieces = list(pieces)
        self.heard = b""
        self.complaints: list[str] = []

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    async def write(self, chunk: bytes) -> None:
        self.heard += chunk

    async def complain(self, text: str) -> None:
        self.complaints.append(text)


class Echo:
    """Sends back what it reads; fails as told."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.calls: list[tuple[str, Any]] = []
        self.contexts: list[PushContext] = []

    async def upload_pack(
        self, _id: int, *, version: int, stateless: bool, source: ByteSource, sink: ByteSink
    ) -> None:
        assert not stateless
        self.calls.append(("upload_pack", version))
        await self._echo(source, sink)

    async def receive_pack(self, _id: int, *, stateless: bool, context: PushContext, **rest: Any) -> None:
        assert not stateless
        self.calls.append(("receive_pack", rest["rules"].actor.label))
        self.contexts.append(context)
        await self._echo(rest["source"], rest["sink"])

    async def _echo(self, source: ByteSource, sink: ByteSink) -> None:
        while piece := await source.read():
            await sink.write(piece)
        if self.failure:
            raise self.failure


KEYS = {"SHA256:ada": ADA, "SHA256:eve": EVE}


def hold(
    command: str | None,
    *,
    key: str = "SHA256:ada",
    git_protocol: str = "",
    service: Echo | None = None,
    gate: FakeGate | None = None,
) -> tuple[int, Line]:
    line = Line([b"hello"])
    gate = gate or FakeGate()
    gate.keys |= KEYS
    asked = Asked(fingerprint=key, address="192.0.2.7", command=command, git_protocol=git_protocol)
    with ThreadPoolExecutor(1) as threads:
        conversations = Conversations(
            service=service or Echo(),
            gate=gate,
            threads=threads,
            clock=SYSTEM,
            clone_url=lambda path: f"ssh://git@git.test/{path}.git",
        )
        return asyncio.run(conversations.hold(asked, line)), line


def test_a_shell_is_a_greeting() -> None:
    code, line = hold(None)
    assert (code, line.heard, line.complaints) == (0, b"Welcome to Mainstay, @ada!\n", [])


@pytest.mark.parametrize(
    ("git_protocol", "version"),
    [("", 0), ("version=0", 0), ("version=1", 0), ("version=2", 2), ("a:version=2", 2), ("version=21", 0)],
)
def test_a_fetch_speaks_the_version_that_was_asked_for(git_protocol: str, version: int) -> None:
    service = Echo()
    code, line = hold("git-upload-pack '/ada/engine.git'", git_protocol=git_protocol, service=service)
    assert (code, line.heard, service.calls) == (0, b"hello", [("upload_pack", version)])


def test_a_push_knows_where_it_came_from() -> None:
    service = Echo()
    code, _ = hold("git-receive-pack 'ada/engine'", service=service)
    assert (code, service.calls) == (0, [("receive_pack", "user:7")])
    context = service.contexts[0]
    assert (context.address, context.transport, list(context.messages)) == ("192.0.2.7", "ssh", [])
    assert len(context.request_id) == 26


def test_a_push_to_a_new_path_makes_the_project_and_says_so() -> None:
    service, gate = Echo(), FakeGate()
    code, _ = hold("git-receive-pack '/ada/fresh.git'", service=service, gate=gate)
    assert (code, gate.created) == (0, ["ada/fresh"])
    assert service.contexts[0].messages == [
        "The private project ada/fresh was created.",
        "Clone it from ssh://git@git.test/ada/fresh.git",
    ]


def test_a_fetch_of_a_missing_path_makes_nothing() -> None:
    gate = FakeGate()
    code, line = hold("git-upload-pack '/ada/fresh.git'", gate=gate)
    assert (code, gate.created, line.complaints) == (1, [], ["ERROR: repository not found"])


@pytest.mark.parametrize("service", ["git-upload-pack", "git-receive-pack"])
@pytest.mark.parametrize("path", ["/ada/engine.git", "/ada/missing.git"])
def test_who_may_not_know_hears_not_found(service: str, path: str) -> None:
    code, line = hold(f"{service} '{path}'", key="SHA256:eve")
    assert (code, line.complaints, line.heard) == (1, ["ERROR: repository not found"], b"")


@pytest.mark.parametrize("command", [None, "git-upload-pack '/world/open.git'"])
def test_a_key_that_was_taken_away_since_the_sign_in_is_refused(command: str | None) -> None:
    code, line = hold(command, key="SHA256:gone")
    assert code == 1
    assert line.complaints == ["ERROR: this key belongs to nobody here"]


@pytest.mark.parametrize("path", ["/ada/../root/x", "/ada//x", "/ada/./x", "/../../etc/passwd", "/ada/.git"])
def test_tricks_with_paths_are_refused(path: str) -> None:
    service = Echo()
    code, line = hold(f"git-upload-pack '{path}'", service=service)
    assert (code, service.calls) == (1, [])
    assert line.complaints[0].startswith("ERROR: the path of the repository has")


def test_the_commands_of_a_shell_are_unknown() -> None:
    code, line = hold("ls -la")
    assert (code, line.heard) == (127, b"")
    assert "no shell" in line.complaints[0]


def test_what_is_away_says_when_to_come_back() -> None:
    gate = FakeGate()
    gate.broken = Unavailable("the database is away", retry_after_s=7)
    code, line = hold("git-upload-pack '/ada/engine'", gate=gate)
    assert (code, line.complaints) == (1, ["ERROR: the database is away; try again in 7 s"])


def test_a_bug_is_told_by_its_request_id_only() -> None:
    code, line = hold("git-upload-pack '/ada/engine'", service=Echo(RuntimeError("secret detail")))
    assert code == 1
    assert line.complaints[0].startswith("ERROR: internal error, request id ")
    assert "secret" not in line.complaints[0]


@pytest.mark.parametrize("failure", [ClientGone(), OutcomeUnknown("commit sent, no answer")])
def test_what_must_end_in_a_hang_up_is_left_to_the_session(failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        hold("git-receive-pack '/ada/engine'", service=Echo(failure))
