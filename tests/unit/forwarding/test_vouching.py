"""Admission between sites: what is asked, what is said, and what of it arrives."""

import json
from typing import Any, cast

import pytest

from mainstay.access.actors import Actor, Kind
from mainstay.access.policy import GitAction
from mainstay.foundation.errors import MainstayError, NotAllowed, NotFound, Unavailable
from mainstay.product.accounts.identify import TooManyAttempts, WrongCredentials
from mainstay.product.projects.admission import (
    NOBODY,
    Admission,
    Bearer,
    Credentials,
    GitGate,
    SignInNeeded,
    SshKey,
    UserAndSecret,
)
from mainstay.product.projects.vouching import Asked, Vouching, asked_from, is_somebody, vouched_from
from mainstay.repository.remote.strict import BadFields, Fields, fields_of

ADA = Actor(kind=Kind.USER, id=7, name="ada", scopes=frozenset({"api"}), token_id=3)


class Gate:
    """Lets Ada in to her engine."""

    def __init__(self) -> None:
        self.identified: list[tuple[Credentials, str]] = []
        self.refusal: MainstayError | None = None

    def identify(self, credentials: Credentials, *, address: str) -> Actor:
        self.identified.append((credentials, address))
        if self.refusal is not None:
            raise self.refusal
        return ADA

    def enter(self, actor: Actor, path: str, action: GitAction, *, create: bool) -> Admission:
        assert (action, create) == (GitAction.PULL, False)
        if path != "ada/engine":
            raise NotFound(f"there is no {path}")
        return Admission(actor=actor, path=path, repository_id=11)


def look(gate: Gate, asked: Asked) -> Fields:
    """There and back, as JSON carries it."""
    vouching = Vouching(cast("GitGate", gate), lambda repository_id: repository_id * 10)
    arrived = asked_from(fields_of(json.dumps(asked.facts()).encode()))
    assert arrived == asked
    return fields_of(json.dumps(vouching.look(arrived)).encode())


@pytest.mark.parametrize(
    "credentials", [NOBODY, UserAndSecret("ada", "sécret"), Bearer("glpat-1"), SshKey("SHA256:abc")]
)
def test_whoever_may_is_admitted_at_a_version(credentials: Credentials) -> None:
    gate = Gate()
    said = vouched_from(look(gate, Asked(credentials, "ada/engine", "192.0.2.7")))
    assert said.version == 110
    assert said.repository_id == 11
    assert said.admission == Admission(actor=ADA, path="ada/engine", repository_id=11)
    assert gate.identified == [(credentials, "192.0.2.7")]


@pytest.mark.parametrize("refusal", [NotFound("no"), NotAllowed("not with this token")])
def test_what_was_not_counted_is_refused_without_a_reason(refusal: MainstayError) -> None:
    gate = Gate()
    gate.refusal = refusal
    said = vouched_from(look(gate, Asked(NOBODY, "ada/engine", "192.0.2.7")))
    assert (said.version, said.admission, said.refusal) == (None, None, None)
    assert vouched_from(look(Gate(), Asked(NOBODY, "ada/none", "192.0.2.7"))).version is None


def test_what_was_counted_is_said_so_that_it_is_not_counted_twice() -> None:
    gate = Gate()
    gate.refusal = WrongCredentials()
    said = vouched_from(look(gate, Asked(UserAndSecret("ada", "x"), "ada/engine", "192.0.2.7")))
    assert isinstance(said.refusal, WrongCredentials)
    gate.refusal = TooManyAttempts("too many failed sign-ins; try again in 60 s", retry_after_s=60)
    said = vouched_from(look(gate, Asked(UserAndSecret("ada", "x"), "ada/engine", "192.0.2.7")))
    assert isinstance(said.refusal, TooManyAttempts)
    assert (str(said.refusal), said.refusal.retry_after_s) == (str(gate.refusal), 60)


def test_who_showed_nothing_is_asked_to_sign_in() -> None:
    gate = Gate()
    gate.refusal = SignInNeeded("sign in to see whether there is such a repository")
    said = vouched_from(look(gate, Asked(NOBODY, "ada/engine", "192.0.2.7")))
    assert isinstance(said.refusal, SignInNeeded)
    assert str(said.refusal) == str(gate.refusal)


def test_a_database_that_is_away_is_not_a_refusal() -> None:
    gate = Gate()
    gate.refusal = Unavailable("the database is away")
    with pytest.raises(Unavailable):
        look(gate, Asked(NOBODY, "ada/engine", "192.0.2.7"))


def test_whose_key_it_is_can_be_asked_alone() -> None:
    gate = Gate()
    assert is_somebody(look(gate, Asked(SshKey("SHA256:abc"), "", "192.0.2.7")))
    gate.refusal = NotFound("nobody's")
    assert not is_somebody(look(gate, Asked(SshKey("SHA256:abc"), "", "192.0.2.7")))


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"credentials": {"kind": "magic"}, "path": "a/b", "address": "x"},
        {"credentials": {"kind": "basic", "username": "ada"}, "path": "a/b", "address": "x"},
        {"credentials": {"kind": "nobody"}, "path": ["a"], "address": "x"},
    ],
)
def test_questions_are_read_strictly(facts: dict[str, Any]) -> None:
    with pytest.raises(BadFields):
        asked_from(fields_of(json.dumps(facts).encode()))


def test_answers_are_read_strictly() -> None:
    for facts in ({}, {"version": 1}, {"version": -1}, {"version": 1, "repository_id": 0, "path": "a/b"}):
        with pytest.raises(BadFields):
            vouched_from(fields_of(json.dumps(facts).encode()))
