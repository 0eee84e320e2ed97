"""One table: what went wrong, as an HTTP status. The more specific class stands above its family."""

from collections.abc import Sequence
from dataclasses import dataclass

from mainstay.doors.githttp.answer import Header
from mainstay.doors.githttp.body import BodyTooLarge, BodyTooSlow, UnknownEncoding
from mainstay.foundation.errors import Conflict, Invalid, MainstayError, NotAllowed, NotFound, Unavailable
from mainstay.product.accounts.identify import TooManyAttempts, WrongCredentials
from mainstay.product.projects.admission import SignInNeeded
from mainstay.storage.database import DatabaseCutOff


class WrongMethod(Invalid):
    """The address exists, but not for this method."""

    def __init__(self, allowed: str) -> None:
        super().__init__(f"this address takes {allowed} only")
        self.allowed = allowed


class WrongContentType(Invalid):
    """The body of a POST says that it is something else."""


_STATUSES: Sequence[tuple[type[MainstayError], int]] = (
    (WrongMethod, 405),
    (WrongContentType, 415),
    (UnknownEncoding, 415),
    (BodyTooLarge, 413),
    (BodyTooSlow, 408),
    (Invalid, 400),
    (SignInNeeded, 401),
    (WrongCredentials, 401),
    (NotAllowed, 403),
    (NotFound, 404),
    (Conflict, 409),
    (TooManyAttempts, 429),
    # A status of its own: only this one means that the same request succeeds at another node.
    (DatabaseCutOff, 502),
    (Unavailable, 503),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    sentence: str
    headers: Sequence[Header] = ()


def refusal_of(error: MainstayError, *, realm: str) -> Refusal:
    status = next((status for family, status in _STATUSES if isinstance(error, family)), 500)
    # One text for every missing thing: the message below may say more than the actor should know.
    sentence = "repository not found" if isinstance(error, NotFound) else str(error)
    return Refusal(status, sentence, _headers(error, status, realm))


def _headers(error: MainstayError, status: int, realm: str) -> list[Header]:
    if status == 401:  # noqa: PLR2004 - the number is the name
        return [(b"www-authenticate", f'Basic realm="{realm}", charset="UTF-8"'.encode())]
    if isinstance(error, WrongMethod):
        return [(b"allow", error.allowed.encode())]
    if isinstance(error, Unavailable):
        return [(b"retry-after", str(error.retry_after_s).encode())]
    return []
