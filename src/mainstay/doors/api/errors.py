"""What a client is told when something went wrong: one table from error family to status and body.

A thing that one may not know of answers exactly like a thing that is not there. An error of no family is
a bug: logged once, here, with its trace, and shown as a bare 500.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, cast

from django.core.exceptions import SuspiciousOperation
from django.db import InterfaceError, OperationalError
from rest_framework import exceptions as drf
from rest_framework.response import Response

from mainstay.doors.api.pagination import NoKeyset
from mainstay.doors.api.parameters import WrongParameter
from mainstay.foundation.errors import (
    Conflict,
    Invalid,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from mainstay.foundation.logs import get_logger
from mainstay.product.accounts.identify import TooManyAttempts
from mainstay.product.accounts.lookup import NoSuchKey, NoSuchToken, NoSuchUser
from mainstay.product.accounts.writing import Taken
from mainstay.product.projects.lookup import NoSuchGroup, NoSuchProject
from mainstay.product.projects.machines import NoSuchDeployKey, NoSuchDeployToken

log = get_logger()


class NoSuchThing(NotFound):
    """Nothing of this kind, or none the actor may know of; says `404 Project Not Found`."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"{kind} Not Found")
        self.kind = kind


class NeedsSignIn(Exception):
    """Nobody is signed in, and this needs somebody: 401."""


class BadToken(Exception):
    """A token was sent and is not valid: 401, on public endpoints too."""

    def __init__(self, error: str = "", description: str = "") -> None:
        super().__init__(description)
        self.error = error
        self.description = description


class InsufficientScope(NotAllowed):
    """The token is valid and was not made for this."""

    def __init__(self, scopes: Sequence[str]) -> None:
        super().__init__("The request requires higher privileges than provided by the access token.")
        self.scopes = scopes


class WrongField(Invalid):
    """A value was refused by the product; shown under the name of its parameter."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.fields = {field: (reason,)}


class BadRequest(Invalid):
    """400 with a message in GitLab's own words."""


class BodyTooLarge(Invalid):
    """The body is larger than any API request needs."""


@contextmanager
def about(field: str) -> Iterator[None]:
    """Show what the product refuses in this block as a matter of parameter `field`."""
    try:
        yield
    except (WrongParameter, WrongField):
        raise
    except Taken as error:
        raise WrongField(field, "has already been taken") from error
    except Invalid as error:
        raise WrongField(field, str(error)) from error


def answer(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status=status, headers=dict(headers or {}))


def answer_to(error: Exception) -> Response:
    """The answer to any exception an endpoint raised."""
    for kind, respond in _TABLE:
        if isinstance(error, kind):
            return cast("Response", respond(error))
    log.error("api.failed", error_type=type(error).__name__, exc_info=error)
    return answer(500, {"message": "500 Internal Server Error"})


def _needs_sign_in(_error: Any) -> Response:
    return answer(401, {"message": "401 Unauthorized"})


def _bad_token(error: Any) -> Response:
    if not error.error:
        return answer(401, {"message": "401 Unauthorized"})
    return answer(401, {"error": error.error, "error_description": error.description})


def _insufficient_scope(error: Any) -> Response:
    return answer(
        403,
        {
            "error": "insufficient_scope",
            "error_description": str(error),
            "scope": " ".join(error.scopes),
        },
    )


def _not_found(error: Any) -> Response:
    """Says what kind of thing is not there, never more: the message of the error is for the log."""
    kind = error.kind if isinstance(error, NoSuchThing) else _KINDS.get(type(error), "")
    return answer(404, {"message": " ".join(filter(None, ("404", kind, "Not Found")))})


def _not_allowed(error: Any) -> Response:
    text = str(error)
    return answer(403, {"message": f"403 Forbidden - {text}" if text else "403 Forbidden"})


def _invalid(error: Any) -> Response:
    """Errors that know their fields show them as GitLab does: `{"message": {"path": ["is taken"]}}`."""
    fields = getattr(error, "fields", None)
    if fields:
        shown = {name: [text] if isinstance(text, str) else list(text) for name, text in fields.items()}
        return answer(400, {"message": shown})
    return answer(400, {"message": str(error)})


def _conflict(error: Any) -> Response:
    """What is taken already is, to GitLab's clients, a wrong value and not a race."""
    if getattr(error, "fields", None):
        return _invalid(error)
    return answer(409, {"message": str(error)})


def _unavailable(error: Any) -> Response:
    return answer(
        503,
        {"message": f"503 Service Unavailable - {error}"},
        {"Retry-After": str(error.retry_after_s)},
    )


def _too_many(error: Any) -> Response:
    return answer(
        429, {"message": f"429 Too Many Requests - {error}"}, {"Retry-After": str(error.retry_after_s)}
    )


def _database_away(_error: Any) -> Response:
    text = "503 Service Unavailable - the database is away"
    return answer(503, {"message": text}, {"Retry-After": "5"})


def _outcome_unknown(_error: Any) -> Response:
    text = "503 Service Unavailable - the database did not confirm the change: look before you retry"
    return answer(503, {"message": text}, {"Retry-After": "5"})


def _wrong_parameter(error: Any) -> Response:
    return answer(400, {"error": str(error)})


def _from_framework(error: Any) -> Response:
    if isinstance(error, drf.MethodNotAllowed):
        return answer(405, {"error": "405 Not Allowed"})
    if isinstance(error, drf.UnsupportedMediaType):
        return answer(415, {"error": "The provided content-type is not supported."})
    if isinstance(error, drf.ParseError):
        return answer(400, {"error": "Problem while parsing the body: it is not what its content type says"})
    phrase = HTTPStatus(error.status_code).phrase
    return answer(error.status_code, {"message": f"{error.status_code} {phrase}"})


_KINDS: Mapping[type[Exception], str] = {
    NoSuchKey: "Key",
    NoSuchToken: "Personal Access Token",
    NoSuchUser: "User",
    NoSuchProject: "Project",
    NoSuchGroup: "Group",
    NoSuchDeployKey: "Deploy Key",
    NoSuchDeployToken: "Deploy Token",
}

_TABLE: tuple[tuple[type[Exception], Any], ...] = (
    (NeedsSignIn, _needs_sign_in),
    (BadToken, _bad_token),
    (InsufficientScope, _insufficient_scope),
    (WrongParameter, _wrong_parameter),
    (NoKeyset, lambda error: answer(405, {"error": str(error)})),
    (BodyTooLarge, lambda error: answer(413, {"message": f"413 Request Entity Too Large - {error}"})),
    (NotFound, _not_found),
    (NotAllowed, _not_allowed),
    (Conflict, _conflict),
    (Invalid, _invalid),
    (TooManyAttempts, _too_many),
    (Unavailable, _unavailable),
    (OutcomeUnknown, _outcome_unknown),
    (drf.APIException, _from_framework),
    # Reads by ORM meet the database without the services' translation in between.
    (OperationalError, _database_away),
    (InterfaceError, _database_away),
    # Django's own limits on forms: too many fields, too large a form, a malformed multipart header.
    (SuspiciousOperation, lambda _error: answer(400, {"error": "the body is beyond the limits for forms"})),
)
