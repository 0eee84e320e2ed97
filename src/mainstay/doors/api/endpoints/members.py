"""Members of groups and projects."""

from typing import Any

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.access.roles import Role
from mainstay.doors.api.endpoint import Endpoint, find_user
from mainstay.doors.api.endpoints.project_lists import role_in
from mainstay.doors.api.errors import NoSuchThing, about
from mainstay.doors.api.parameters import WrongParameter
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes import places as shapes
from mainstay.product.accounts.lookup import User, user_for
from mainstay.product.projects import membership
from mainstay.product.projects.lookup import (
    Member,
    Namespace,
    Project,
    all_members_of,
    group_for,
    members_of,
    project_for,
)

_USERS_MAX = 100
"""People whom one request adds."""


class MemberEndpoint(Endpoint):
    """Members of whatever the path names: `project` or `group`."""

    anonymous_may_read = True

    def readable(self, where: dict[str, Any]) -> Namespace | Project:
        return self._place(where, Action.READ_MEMBERS, Action.READ_GROUP_MEMBERS)

    def manageable(self, where: dict[str, Any]) -> Namespace | Project:
        return self._place(where, Action.MANAGE_MEMBERS, Action.MANAGE_GROUP_MEMBERS)

    def _place(self, where: dict[str, Any], in_project: Action, in_group: Action) -> Namespace | Project:
        if "project" in where:
            return project_for(self.actor, where["project"].key, in_project, clock=self.kit.clock)
        return group_for(self.actor, where["group"].key, in_group, clock=self.kit.clock)

    def user(self, user_id: int) -> User:
        return find_user(self.actor, Reference(user_id, None))

    def shape(self, member: Member) -> dict[str, Any]:
        return shapes.member(member, self.addresses)

    def role(self) -> Role:
        self.parameters.require("access_level")
        role = role_in(self.parameters, "access_level")
        if role is None:
            raise WrongParameter("access_level does not have a valid value")
        return role


class Members(MemberEndpoint):
    def get(self, _request: Request, **where: Any) -> Response:
        members = members_of(self.readable(where))
        query = self.parameters.search("query")
        if query:
            members = members.filter(
                Q(user__username_lower__contains=query.lower()) | Q(user__name__icontains=query)
            )
        user_ids = self.parameters.numbers("user_ids")
        if user_ids is not None:
            members = members.filter(user_id__in=user_ids)
        return self.page(members, self.shape)

    def post(self, _request: Request, **where: Any) -> Response:
        """One user, or several as in `user_id=1,2`: the first that cannot be added ends the request."""
        place, role = self.manageable(where), self.role()
        users = self._users()
        if len(users) == 1:
            return self.created(self.shape(self._add(place, users[0], role)))
        for user in users:
            self._add(place, user, role)
        return self.created({"status": "success"})

    def _add(self, place: Namespace | Project, user: User, role: Role) -> Member:
        return membership.add_member(
            place,
            user,
            role,
            by=self.actor,
            expires_at_ms=self.parameters.maybe_moment_ms("expires_at"),
            clock=self.kit.clock,
        )

    def _users(self) -> list[User]:
        self.parameters.require_one_of("user_id", "username")
        by_id = "user_id" in self.parameters
        keys = (self.parameters.numbers("user_id") if by_id else self.parameters.texts("username")) or []
        if not 0 < len(keys) <= _USERS_MAX:
            raise WrongParameter(f"{'user_id' if by_id else 'username'} does not have a valid value")
        return [user_for(self.actor, key) for key in keys]


class AllMembers(MemberEndpoint):
    """Direct members and those of the groups above."""

    def get(self, _request: Request, **where: Any) -> Response:
        members = all_members_of(self.readable(where))
        query = self.parameters.search("query").lower()
        found = [
            each for each in members if query in each.user.username_lower or query in each.user.name.lower()
        ]
        return self.page(found, self.shape)


class OneMember(MemberEndpoint):
    def get(self, _request: Request, user: int, **where: Any) -> Response:
        place = self.readable(where)
        return Response(self.shape(_of(list(members_of(place).filter(user_id=user)), user)))

    def put(self, _request: Request, user: int, **where: Any) -> Response:
        place, role = self.manageable(where), self.role()
        before = membership.member_of(place, self.user(user))
        expires_at_ms = before.expires_at_ms
        if "expires_at" in self.parameters:
            expires_at_ms = self.parameters.maybe_moment_ms("expires_at")
        with about("access_level"):
            changed = membership.set_member(
                place, before.user, role, by=self.actor, expires_at_ms=expires_at_ms, clock=self.kit.clock
            )
        return Response(self.shape(changed))

    def delete(self, _request: Request, user: int, **where: Any) -> Response:
        # Everybody may leave; others are sent away by who manages the members.
        place = self.readable(where) if user == self.actor.id else self.manageable(where)
        membership.remove_member(place, self.user(user), by=self.actor)
        return self.no_content()


class OneOfAllMembers(MemberEndpoint):
    def get(self, _request: Request, user: int, **where: Any) -> Response:
        return Response(self.shape(_of(all_members_of(self.readable(where)), user)))


def _of(members: list[Member], user_id: int) -> Member:
    member = next((each for each in members if each.user_id == user_id), None)
    if member is None:
        raise NoSuchThing("Member")
    return member
