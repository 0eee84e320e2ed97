"""Personal access tokens. The text of a token is in the answer that made it, and nowhere else."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.doors.api.authentication import check_scopes
from mainstay.doors.api.endpoint import Endpoint, find_user
from mainstay.doors.api.errors import about
from mainstay.doors.api.parameters import Parameters, WrongParameter
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes import people
from mainstay.product.accounts import services
from mainstay.product.accounts.lookup import (
    PersonalAccessToken,
    User,
    current_token,
    require,
    token_for,
    tokens_for,
    user_of,
)

_ROTATED_DAYS = 7
_SELF_MADE_SCOPES = frozenset({"k8s_proxy", "self_rotate"})
"""What a token may make tokens of; else a token of few rights could make itself one of many."""


class TokenEndpoint(Endpoint):
    accepted_scopes = frozenset({"read_user"})

    def shape(self, token: PersonalAccessToken, secret: str | None = None) -> dict[str, Any]:
        return people.personal_access_token(token, now_ms=self.kit.clock.now_ms(), secret=secret)

    def make(self, user: User) -> Response:
        self.parameters.require("name", "scopes")
        with about("scopes"):
            made = services.create_token(
                user,
                name=self.parameters.text("name"),
                scopes=self.parameters.texts("scopes") or (),
                expires_on=self.parameters.maybe_date("expires_at"),
                description=self.parameters.maybe_text("description") or "",
                clock=self.kit.clock,
            )
        return self.created(self.shape(made.token, made.plaintext))

    def rotate(self, token: PersonalAccessToken) -> Response:
        expires_on = self.parameters.maybe_date("expires_at") or self._in_a_week()
        with about("expires_at"):
            made = services.rotate_token(token, expires_on=expires_on, clock=self.kit.clock)
        return Response(self.shape(made.token, made.plaintext))

    def _in_a_week(self) -> date:
        today = datetime.fromtimestamp(self.kit.clock.now_ms() / 1000, tz=UTC).date()
        return today + timedelta(days=_ROTATED_DAYS)


class Tokens(TokenEndpoint):
    def get(self, _request: Request) -> Response:
        wanted = self.parameters.maybe_integer("user_id")
        user = None if wanted is None else find_user(self.actor, Reference(wanted, None))
        found = _filtered(tokens_for(self.actor, user=user), self.parameters, self.kit.clock.now_ms())
        return self.page(found, self.shape)


class OneToken(TokenEndpoint):
    def get(self, _request: Request, token: int) -> Response:
        return Response(self.shape(token_for(self.actor, token)))

    def delete(self, _request: Request, token: int) -> Response:
        services.revoke_token(token_for(self.actor, token), clock=self.kit.clock)
        return self.no_content()


class RotateToken(TokenEndpoint):
    def post(self, _request: Request, token: int) -> Response:
        return self.rotate(_live(token_for(self.actor, token)))


class OwnToken(TokenEndpoint):
    """The token of this request: any token may look at itself and end itself."""

    every_scope = True

    def get(self, _request: Request) -> Response:
        return Response(self.shape(current_token(self.actor)))

    def delete(self, _request: Request) -> Response:
        services.revoke_token(current_token(self.actor), clock=self.kit.clock)
        return self.no_content()


class RotateOwnToken(TokenEndpoint):
    every_scope = True

    def post(self, _request: Request) -> Response:
        if "self_rotate" not in (self.actor.scopes or ()):
            check_scopes(self.actor, "POST", accepted=frozenset())
        return self.rotate(current_token(self.actor))


class UserTokens(TokenEndpoint):
    def post(self, _request: Request, user: Reference) -> Response:
        require(Action.ADMIN, self.actor)
        return self.make(find_user(self.actor, user))


class OwnTokens(TokenEndpoint):
    def post(self, _request: Request) -> Response:
        if not set(self.parameters.texts("scopes") or ()) <= _SELF_MADE_SCOPES:
            raise WrongParameter("scopes does not have a valid value")
        return self.make(user_of(self.actor))


def _live(token: PersonalAccessToken) -> PersonalAccessToken:
    if token.revoked_at_ms is not None:
        raise WrongParameter("token already revoked")
    return token


def _filtered(tokens: Any, parameters: Parameters, now_ms: int) -> Any:
    search = parameters.search()
    if search:
        tokens = tokens.filter(name__icontains=search)
    revoked = parameters.maybe_boolean("revoked")
    if revoked is not None:
        tokens = tokens.filter(revoked_at_ms__isnull=not revoked)
    state = parameters.maybe_choice("state", ("active", "inactive"))
    if state == "active":
        return tokens.filter(revoked_at_ms__isnull=True).exclude(expires_at_ms__lte=now_ms)
    if state == "inactive":
        return tokens.exclude(revoked_at_ms__isnull=True, expires_at_ms__isnull=True).exclude(
            revoked_at_ms__isnull=True, expires_at_ms__gt=now_ms
        )
    return tokens
