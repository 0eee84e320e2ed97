"""Where a conversation over SSH is held on a replica."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from mainstay.access.actors import Actor, Kind
from mainstay.cluster.station import Lag, Sight
from mainstay.doors.ssh import replica
from mainstay.doors.ssh.conversation import Asked, Here
from mainstay.doors.ssh.replica import PrimaryNeeded, ReplicaSessions
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.product.projects.admission import Admission
from mainstay.product.projects.vouching import Vouched
from mainstay.repository.forwarding.chooser import Choice, Chooser
from mainstay.repository.forwarding.decisions import Refuse, SendOn, ServeHere, ServeStale
from mainstay.repository.forwarding.whereabouts import Primary, PrimaryAway
from mainstay.repository.remote.calls import Session
from mainstay.repository.remote.wire import NotServed
from mainstay.repository.streams import ClientGone
from mainstay.storage.database.fence import Claim

REPLICA = Sight("replica", "it follows", Claim(1, "01PARIS", "paris"), Lag(0.0, 0, is_connected=True))
THERE = Primary("01PARIS", "paris", "127.0.0.1", 1)
ADMISSION = Admission(actor=Actor(kind=Kind.USER, id=7), path="ada/engine", repository_id=11)
FETCH = Asked(
    fingerprint="SHA256:abc",
    address="192.0.2.7",
    command="git-upload-pack 'ada/engine'",
    git_protocol="version=2",
)


@dataclass
class Elsewhere:
    """Both what chooses and the line to the primary."""

    choices: list[Choice[Vouched]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    ends: list[int | Exception] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)

    @property
    def line(self) -> "Elsewhere":
        return self

    def sight(self) -> Sight:
        return REPLICA

    async def choose(self, **asked: Any) -> Choice[Vouched]:
        self.asked.append(asked)
        self.clock.advance(1)
        return self.choices.pop(0) if len(self.choices) > 1 else self.choices[0]

    async def session(self, primary: Primary, call: Session, *, aside: Any, **_: Any) -> int:
        assert primary is THERE
        self.sessions.append(call)
        await aside("ERROR: näin".encode())
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    async def complain(self, text: str) -> None:
        self.complaints.append(text)

    def settle(self, asked: Asked = FETCH, *, is_push: bool = False) -> int | Here:
        sessions = ReplicaSessions(cast("Chooser[Vouched]", self), clock=self.clock)
        line = cast("Any", self)
        return asyncio.run(
            sessions.settle(asked, path="ada/engine", is_push=is_push, line=line, request_id="r1")
        )


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    monkeypatch.setattr(replica, "_PAUSE_S", 0)
    return Elsewhere()


def choice(step: Any, answer: Vouched | None = None) -> Choice[Vouched]:
    return Choice(step, REPLICA, THERE, answer)


def test_a_push_is_held_at_the_primary_as_it_is(elsewhere: Elsewhere) -> None:
    elsewhere.choices, elsewhere.ends = [choice(SendOn("it is a push"))], [1]
    assert elsewhere.settle(is_push=True) == 1
    assert elsewhere.asked == [{"asked": None, "hops": 0, "away": ""}]
    assert elsewhere.sessions == [
        Session(
            fingerprint="SHA256:abc",
            address="192.0.2.7",
            command="git-upload-pack 'ada/engine'",
            git_protocol="version=2",
            hops=1,
        )
    ]
    assert elsewhere.complaints == ["ERROR: näin"]


def test_a_fetch_is_held_here_for_whom_the_primary_admits(elsewhere: Elsewhere) -> None:
    elsewhere.choices = [choice(ServeHere("fresh"), Vouched(7, ADMISSION))]
    assert elsewhere.settle() == Here(ADMISSION)
    assert elsewhere.asked[0]["asked"] == {
        "credentials": {"kind": "key", "fingerprint": "SHA256:abc"},
        "path": "ada/engine",
        "address": "192.0.2.7",
    }


def test_without_the_primary_a_fetch_is_held_here_with_a_remark(elsewhere: Elsewhere) -> None:
    elsewhere.choices = [choice(ServeStale("away", "It does not answer.", "1s"))]
    assert elsewhere.settle() == Here(remark="It does not answer.")


def test_a_push_waits_a_moment_for_a_primary(elsewhere: Elsewhere) -> None:
    elsewhere.choices = [choice(Refuse("away", "nothing was changed"))]
    with pytest.raises(PrimaryNeeded, match="nothing was changed"):
        elsewhere.settle(is_push=True)
    assert len(elsewhere.asked) == 5, "one second of the clock each"
    refused = choice(Refuse("away", "nothing was changed"))
    elsewhere.choices = [refused, refused, choice(ServeHere("this site is the primary"))]
    assert elsewhere.settle(is_push=True) == Here()


def test_a_primary_that_is_found_away_is_chosen_for_again(elsewhere: Elsewhere) -> None:
    elsewhere.choices = [choice(SendOn("newer")), choice(ServeStale("away", "It is away.", "1s"))]
    elsewhere.ends = [PrimaryAway("connection refused")]
    assert elsewhere.settle() == Here(remark="It is away.")
    assert [each["away"] for each in elsewhere.asked] == ["", "connection refused"]


@pytest.mark.parametrize(("is_push", "error"), [(True, OutcomeUnknown), (False, ClientGone)])
def test_what_breaks_off_in_the_middle_has_no_exit_code(
    elsewhere: Elsewhere, is_push: bool, error: type[Exception]
) -> None:
    elsewhere.choices = [choice(SendOn("there"))]
    elsewhere.ends = [NotServed("cut", Unavailable("it went away"))]
    with pytest.raises(error):
        elsewhere.settle(is_push=is_push)
