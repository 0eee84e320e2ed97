"""A project that was to begin with a README begins with it or not at all."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError

from mainstay.access.actors import Actor, Kind
from mainstay.doors.api.endpoints import projects
from mainstay.doors.api.endpoints.projects import Projects
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Conflict, OutcomeUnknown, Unavailable
from mainstay.git.objectnames import RefName
from mainstay.product.accounts.lookup import User
from mainstay.product.projects.lookup import Project

ADA = Actor(kind=Kind.USER, id=7, name="ada")
PROJECT = Project(id=3, name="engine", path="engine", repository_id=5)


def endpoint(failure: Exception) -> Projects:
    """An endpoint whose repository takes no first commit."""

    def refuse(*_: Any, **__: Any) -> None:
        raise failure

    made = Projects()
    made.kit = SimpleNamespace(  # type: ignore[assignment]  # of the kit only what is used here
        writer=SimpleNamespace(initial_commit=refuse),
        ledger=SimpleNamespace(repository=lambda _: SimpleNamespace(head=RefName(b"refs/heads/main"))),
        clock=ManualClock(),
    )
    made.project_and_rules = lambda *_: (PROJECT, None)  # type: ignore[method-assign,assignment,return-value]  # same
    return made


@pytest.mark.parametrize(
    "failure", [Unavailable("the store is away"), OutcomeUnknown("no answer"), OSError("no space left")]
)
def test_it_is_taken_away_whatever_went_wrong(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[Project] = []
    monkeypatch.setattr(projects.services, "delete_project", lambda project, **_: deleted.append(project))
    with pytest.raises(type(failure), match=str(failure)):
        endpoint(failure)._add_readme(PROJECT, User(username="ada", name="Ada"), ADA)
    assert deleted == [PROJECT]


@pytest.mark.parametrize(
    "second", [Conflict("moved"), OutcomeUnknown("no answer"), OperationalError("the server went away")]
)
def test_what_failed_first_is_told_when_taking_away_fails_too(
    second: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise second

    monkeypatch.setattr(projects.services, "delete_project", fail)
    with pytest.raises(Unavailable, match="the store is away"):
        endpoint(Unavailable("the store is away"))._add_readme(PROJECT, User(username="ada"), ADA)
