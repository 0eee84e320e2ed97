"""Users: oneself, others, and what administrators do to them."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.doors.api.endpoint import Endpoint, find_user
from mainstay.doors.api.errors import about
from mainstay.doors.api.pagination import keyset_of
from mainstay.doors.api.parameters import Parameters, WrongParameter
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes import people
from mainstay.foundation.errors import NotAllowed
from mainstay.product.accounts import services
from mainstay.product.accounts.lookup import User, require, user_of, users_for
from mainstay.product.accounts.secrets import new_password

_ORDERS = ("id", "name", "username", "created_at", "updated_at")
READ_USER = frozenset({"read_user"})


class UserEndpoint(Endpoint):
    """What the endpoints of this module share: how a user is shown to this actor."""

    accepted_scopes = READ_USER

    def shape(self, user: User) -> dict[str, Any]:
        if self.actor.is_admin or user.id == self.actor.id:
            return people.user_full(user, self.addresses, for_admin=self.actor.is_admin)
        return people.user_public(user, self.addresses)


class CurrentUser(UserEndpoint):
    def get(self, _request: Request) -> Response:
        return Response(self.shape(user_of(self.actor)))


class Users(UserEndpoint):
    def get(self, _request: Request) -> Response:
        found = _filtered(users_for(self.actor, search=self.parameters.search()), self.parameters)
        keyset = keyset_of(self.parameters)
        if keyset is not None:
            return self.keyset_page(found, keyset, self._shape_all)
        return self.shaped_page(found.order_by(*_order(self.parameters)), self._shape_all)

    def post(self, _request: Request) -> Response:
        require(Action.ADMIN, self.actor)
        self.parameters.require("email", "name", "username")
        username = self.parameters.text("username")
        with about("username"):
            user = services.create_user(
                username=username,
                name=self.parameters.text("name"),
                email=self.parameters.text("email"),
                password=_first_password(self.parameters),
                is_admin=self.parameters.flag("admin"),
                clock=self.kit.clock,
            )
        return self.created(self.shape(user))

    def _shape_all(self, users: Any) -> list[dict[str, Any]]:
        if self.actor.is_admin:
            return [self.shape(user) for user in users]
        return [people.user_brief(user, self.addresses) for user in users]


class OneUser(UserEndpoint):
    def get(self, _request: Request, user: Reference) -> Response:
        return Response(self.shape(find_user(self.actor, user)))

    def put(self, _request: Request, user: Reference) -> Response:
        require(Action.ADMIN, self.actor)
        found = find_user(self.actor, user)
        password = self.parameters.maybe_text("password")
        with about("user"):
            changed = services.update_user(
                found,
                username=self.parameters.maybe_text("username"),
                name=self.parameters.maybe_text("name"),
                email=self.parameters.maybe_text("email"),
                bio=self.parameters.maybe_text("bio"),
                is_admin=self.parameters.maybe_boolean("admin"),
            )
        if password:
            with about("password"):
                services.set_password(changed, password, clock=self.kit.clock)
        return Response(self.shape(changed))

    def delete(self, _request: Request, user: Reference) -> Response:
        require(Action.ADMIN, self.actor)
        found = find_user(self.actor, user)
        _refuse_oneself(self.actor.id, found)
        services.delete_user(found)
        return self.no_content()


class Block(Endpoint):
    def post(self, _request: Request, user: Reference) -> Response:
        require(Action.ADMIN, self.actor)
        found = find_user(self.actor, user)
        _refuse_oneself(self.actor.id, found)
        services.block(found)
        return Response(True, status=201)


class Unblock(Endpoint):
    def post(self, _request: Request, user: Reference) -> Response:
        require(Action.ADMIN, self.actor)
        services.unblock(find_user(self.actor, user))
        return Response(True, status=201)


class Status(Endpoint):
    """Renovate asks whether an assignee is busy; nobody here ever says so."""

    accepted_scopes = READ_USER

    def get(self, _request: Request, user: Reference) -> Response:
        find_user(self.actor, user)
        return Response(_STATUS)


class OwnStatus(Endpoint):
    accepted_scopes = READ_USER

    def get(self, _request: Request) -> Response:
        return Response(_STATUS)


_STATUS = {
    "emoji": None,
    "message": None,
    "availability": "not_set",
    "message_html": "",
    "clear_status_at": None,
}


def _refuse_oneself(actor_id: int, user: User) -> None:
    if user.id == actor_id:
        raise NotAllowed("you cannot do this to yourself")


def _filtered(users: Any, parameters: Parameters) -> Any:
    username = parameters.maybe_text("username")
    if username is not None:
        users = users.filter(username_lower=username.lower())
    for name, state in (("active", "active"), ("blocked", "blocked")):
        if parameters.flag(name):
            users = users.filter(state=state)
    if parameters.flag("admins"):
        users = users.filter(is_admin=True)
    created_after = parameters.maybe_moment_ms("created_after")
    if created_after is not None:
        users = users.filter(created_at_ms__gt=created_after)
    created_before = parameters.maybe_moment_ms("created_before")
    if created_before is not None:
        users = users.filter(created_at_ms__lt=created_before)
    return users


def _order(parameters: Parameters) -> list[str]:
    order = parameters.maybe_choice("order_by", _ORDERS) or "id"
    column = {"created_at": "created_at_ms", "updated_at": "created_at_ms"}.get(order, order)
    descending = (parameters.maybe_choice("sort", ("asc", "desc")) or "desc") == "desc"
    return ["-" + column if descending else column, "id"]


def _first_password(parameters: Parameters) -> str:
    password = parameters.maybe_text("password")
    if password:
        return password
    if parameters.flag("reset_password") or parameters.flag("force_random_password"):
        return new_password()
    parameters.require_one_of("password", "reset_password", "force_random_password")
    raise WrongParameter("reset_password does not have a valid value")
