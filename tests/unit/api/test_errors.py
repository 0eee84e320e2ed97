"""Each family of errors has its status and body, word for word as GitLab's clients expect them."""

from typing import Any

import pytest
from django.db import OperationalError
from rest_framework import exceptions as drf
from structlog.testing import capture_logs

from mainstay.doors.api.errors import (
    BadToken,
    BodyTooLarge,
    InsufficientScope,
    NeedsSignIn,
    NoSuchThing,
    answer_to,
)
from mainstay.doors.api.pagination import NoKeyset
from mainstay.doors.api.parameters import WrongParameter
from mainstay.foundation.errors import Conflict, Invalid, NotAllowed, NotFound, OutcomeUnknown, Unavailable
from mainstay.product.accounts.identify import TooManyAttempts


class TakenPath(Invalid):
    fields = {"path": ("has already been taken",)}  # noqa: RUF012 - a test's own constant


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (NoSuchThing("Project"), 404, {"message": "404 Project Not Found"}),
        (NotFound("ref b'refs/heads/x' of repository 7"), 404, {"message": "404 Not Found"}),
        (NeedsSignIn(), 401, {"message": "401 Unauthorized"}),
        (BadToken(), 401, {"message": "401 Unauthorized"}),
        (
            BadToken("invalid_token", "Token was revoked."),
            401,
            {"error": "invalid_token", "error_description": "Token was revoked."},
        ),
        (NotAllowed(""), 403, {"message": "403 Forbidden"}),
        (NotAllowed("you need more"), 403, {"message": "403 Forbidden - you need more"}),
        (
            InsufficientScope(["api"]),
            403,
            {
                "error": "insufficient_scope",
                "error_description": "The request requires higher privileges than "
                "provided by the access token.",
                "scope": "api",
            },
        ),
        (
            WrongParameter("page does not have a valid value"),
            400,
            {"error": "page does not have a valid value"},
        ),
        (TakenPath("taken"), 400, {"message": {"path": ["has already been taken"]}}),
        (Invalid("no such thing can be"), 400, {"message": "no such thing can be"}),
        (
            TooManyAttempts("too many failed sign-ins", retry_after_s=9),
            429,
            {"message": "429 Too Many Requests - too many failed sign-ins"},
        ),
        (Conflict("moved"), 409, {"message": "moved"}),
        (NoKeyset("not here"), 405, {"error": "not here"}),
        (drf.MethodNotAllowed("PATCH"), 405, {"error": "405 Not Allowed"}),
        (drf.UnsupportedMediaType("x/y"), 415, {"error": "The provided content-type is not supported."}),
        (BodyTooLarge("20 bytes"), 413, {"message": "413 Request Entity Too Large - 20 bytes"}),
    ],
)
def test_the_table(error: Exception, status: int, body: dict[str, Any]) -> None:
    response = answer_to(error)
    assert (response.status_code, response.data) == (status, body)


def test_what_is_away_says_when_to_come_back() -> None:
    response = answer_to(Unavailable("the database is away", retry_after_s=7))
    assert (response.status_code, response["Retry-After"]) == (503, "7")
    assert response.data == {"message": "503 Service Unavailable - the database is away"}


def test_a_database_that_is_away_is_no_bug() -> None:
    response = answer_to(OperationalError("connection refused at 10.0.0.1"))
    assert (response.status_code, "10.0.0.1" in str(response.data)) == (503, False)


def test_an_unknown_outcome_is_neither_success_nor_failure() -> None:
    response = answer_to(OutcomeUnknown())
    assert response.status_code == 503
    assert "look before you retry" in response.data["message"]


def test_a_bug_is_logged_once_and_shows_nothing_of_itself() -> None:
    with capture_logs() as logs:
        response = answer_to(ZeroDivisionError("secret detail"))
    assert (response.status_code, response.data) == (500, {"message": "500 Internal Server Error"})
    assert [(line["event"], line["error_type"]) for line in logs] == [("api.failed", "ZeroDivisionError")]
