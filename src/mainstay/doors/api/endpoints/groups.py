"""Groups and what is in them."""

from typing import Any

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.access.roles import Role, Visibility
from mainstay.doors.api.endpoint import Endpoint
from mainstay.doors.api.endpoints.project_lists import role_in, visibility_in
from mainstay.doors.api.endpoints.project_settings import description_in
from mainstay.doors.api.endpoints.projects import ACCEPTED, ProjectList
from mainstay.doors.api.errors import about
from mainstay.doors.api.paths import Reference, reference
from mainstay.doors.api.shapes import places as shapes
from mainstay.product.accounts.lookup import require, user_of
from mainstay.product.accounts.writing import writing
from mainstay.product.projects import groups
from mainstay.product.projects.identity import chain_of
from mainstay.product.projects.lookup import (
    Namespace,
    group_for,
    groups_visible_to,
    groups_with_role,
    projects_visible_to,
)

_ORDERS = ("id", "name", "path")
_PROJECTS_SHOWN_MAX = 100


class GroupEndpoint(Endpoint):
    anonymous_may_read = True

    def group(self, wanted: Reference, action: Action = Action.READ_GROUP) -> Namespace:
        return group_for(self.actor, wanted.key, action, clock=self.kit.clock)

    def shape(self, group: Namespace) -> dict[str, Any]:
        full_name = " / ".join(each.name for each in chain_of(group))
        return shapes.group(group, self.addresses, full_name=full_name)

    def page_of_groups(self, found: Any) -> Response:
        search = self.parameters.search()
        if search:
            found = found.filter(Q(name__icontains=search) | Q(path__icontains=search))
        visibility = visibility_in(self.parameters)
        if visibility is not None:
            found = found.filter(visibility=visibility)
        least = Role.OWNER if self.parameters.flag("owned") else role_in(self.parameters, "min_access_level")
        if least is not None:
            theirs = groups_with_role(self.actor, least, clock=self.kit.clock)
            found = found.filter(id__in=theirs.order_by().values("id"))
        column = self.parameters.maybe_choice("order_by", (*_ORDERS, "similarity")) or "name"
        sign = "-" if self.parameters.maybe_choice("sort", ("asc", "desc")) == "desc" else ""
        column = "name" if column == "similarity" else column
        return self.page(found.order_by(sign + column, sign + "id"), self.shape)

    def visible(self) -> Any:
        return groups_visible_to(self.actor, clock=self.kit.clock)


class Groups(GroupEndpoint):
    def get(self, _request: Request) -> Response:
        found = self.visible()
        if self.parameters.flag("top_level_only"):
            found = found.filter(parent__isnull=True)
        skipped = self.parameters.numbers("skip_groups")
        return self.page_of_groups(found.exclude(id__in=skipped) if skipped else found)

    def post(self, _request: Request) -> Response:
        self.parameters.require("name", "path")
        parent_id = self.parameters.maybe_integer("parent_id")
        if parent_id is None:
            require(Action.CREATE_GROUP, self.actor)
            parent = None
        else:
            parent = self.group(Reference(parent_id, None), Action.CREATE_SUBGROUP)
        with about("path"):
            group = groups.create_group(
                path=self.parameters.text("path"),
                name=self.parameters.text("name"),
                creator=user_of(self.actor),
                parent=parent,
                visibility=visibility_in(self.parameters) or Visibility.PRIVATE,
                description=self.parameters.maybe_text("description") or "",
                clock=self.kit.clock,
            )
        return self.created(shapes.group_detail(self.shape(group), []))


class OneGroup(GroupEndpoint):
    def get(self, request: Request, group: Reference) -> Response:
        found = self.group(group)
        projects: list[dict[str, Any]] = []
        if self.parameters.maybe_boolean("with_projects") is not False:
            projects = GroupProjects.of(self, found, request)
        return Response(shapes.group_detail(self.shape(found), projects))

    def put(self, _request: Request, group: Reference) -> Response:
        found = self.group(group, Action.UPDATE_GROUP)
        with writing():
            found = self._changed(found)
        return Response(self.shape(found))

    def _changed(self, group: Namespace) -> Namespace:
        with about("group"):
            changed = groups.set_group(
                group,
                name=self.parameters.maybe_text("name") or None,
                description=description_in(self.parameters),
                visibility=visibility_in(self.parameters),
                by=self.actor,
            )
        path = self.parameters.maybe_text("path")
        if not path or path == changed.path:
            return changed
        with about("path"):
            return groups.rename_group(changed, path, by=self.actor)

    def delete(self, _request: Request, group: Reference) -> Response:
        groups.delete_group(self.group(group, Action.DELETE_GROUP), by=self.actor)
        return Response(ACCEPTED, status=202)


class TransferGroup(GroupEndpoint):
    def post(self, _request: Request, group: Reference) -> Response:
        found = self.group(group, Action.TRANSFER_GROUP)
        wanted = self.parameters.maybe_text("group_id")
        if wanted:
            parent = self.group(reference(wanted), Action.CREATE_SUBGROUP)
        else:
            require(Action.CREATE_GROUP, self.actor)
            parent = None
        with about("path"):
            return self.created(self.shape(groups.transfer_group(found, parent, by=self.actor)))


class Subgroups(GroupEndpoint):
    def get(self, _request: Request, group: Reference) -> Response:
        return self.page_of_groups(self.visible().filter(parent_id=self.group(group).id))


class DescendantGroups(GroupEndpoint):
    def get(self, _request: Request, group: Reference) -> Response:
        above = self.group(group).full_path_lower
        return self.page_of_groups(self.visible().filter(full_path_lower__startswith=f"{above}/"))


class GroupProjects(ProjectList):
    def get(self, _request: Request, group: Reference) -> Response:
        found = group_for(self.actor, group.key, Action.READ_GROUP, clock=self.kit.clock)
        projects = projects_visible_to(self.actor, clock=self.kit.clock)
        if self.parameters.flag("include_subgroups"):
            return self.page_of_projects(
                projects.filter(full_path_lower__startswith=f"{found.full_path_lower}/")
            )
        return self.page_of_projects(projects.filter(namespace_id=found.id))

    @classmethod
    def of(cls, endpoint: GroupEndpoint, group: Namespace, request: Request) -> list[dict[str, Any]]:
        """The projects of a group inside the group's own shape."""
        view = cls(kit=endpoint.kit, actor=endpoint.actor, request=request)
        found = projects_visible_to(view.actor, clock=view.kit.clock).filter(namespace_id=group.id)
        return view.shapes(list(found[:_PROJECTS_SHOWN_MAX]))
