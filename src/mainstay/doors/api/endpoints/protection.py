"""Protected branches and tags."""

from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.access.roles import Role
from mainstay.doors.api.endpoints.branches import BranchEndpoint
from mainstay.doors.api.endpoints.project_endpoint import ProjectEndpoint
from mainstay.doors.api.endpoints.project_lists import role_in
from mainstay.doors.api.errors import about
from mainstay.doors.api.parameters import Parameters
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes import git as shapes
from mainstay.product.projects import protection
from mainstay.product.projects.lookup import (
    Project,
    ProtectedBranch,
    protected_branches_of,
    protected_tags_of,
)


class RuleEndpoint(ProjectEndpoint):
    anonymous_may_read = False


class ProtectedBranches(RuleEndpoint):
    def get(self, _request: Request, project: Reference) -> Response:
        rules = protected_branches_of(self.project(project, Action.MANAGE_PROTECTED))
        search = self.parameters.search()
        if search:
            rules = rules.filter(pattern__icontains=search)
        return self.page(rules, shapes.protected_branch)

    def post(self, _request: Request, project: Reference) -> Response:
        found = self.project(project, Action.MANAGE_PROTECTED)
        name = self.parameters.text("name")
        push, merge = _push_role(self.parameters), _merge_role(self.parameters)
        rule = protection.protect_branch(
            found,
            name,
            push_role=Role.MAINTAINER if push is None else push,
            merge_role=Role.MAINTAINER if merge is None else merge,
            allow_force=self.parameters.flag("allow_force_push"),
        )
        return self.created(shapes.protected_branch(rule))


class OneProtectedBranch(RuleEndpoint):
    def get(self, _request: Request, project: Reference, name: str) -> Response:
        found = self.project(project, Action.MANAGE_PROTECTED)
        return Response(shapes.protected_branch(protection.protected_branch(found, name)))

    def patch(self, _request: Request, project: Reference, name: str) -> Response:
        rule = protection.protected_branch(self.project(project, Action.MANAGE_PROTECTED), name)
        with about("access_level"):
            changed = protection.set_protected_branch(
                rule,
                push_role=_push_role(self.parameters),
                merge_role=_merge_role(self.parameters),
                allow_force=self.parameters.maybe_boolean("allow_force_push"),
            )
        return Response(shapes.protected_branch(changed))

    def delete(self, _request: Request, project: Reference, name: str) -> Response:
        found = self.project(project, Action.MANAGE_PROTECTED)
        protection.unprotect(protection.protected_branch(found, name))
        return self.no_content()


class ProtectedTags(RuleEndpoint):
    def get(self, _request: Request, project: Reference) -> Response:
        rules = protected_tags_of(self.project(project, Action.MANAGE_PROTECTED))
        return self.page(rules, shapes.protected_tag)

    def post(self, _request: Request, project: Reference) -> Response:
        found = self.project(project, Action.MANAGE_PROTECTED)
        name = self.parameters.text("name")
        role = _role(self.parameters, "create_access_level", "allowed_to_create")
        push_role = Role.MAINTAINER if role is None else role
        return self.created(shapes.protected_tag(protection.protect_tag(found, name, push_role=push_role)))


class OneProtectedTag(RuleEndpoint):
    def get(self, _request: Request, project: Reference, name: str) -> Response:
        found = self.project(project, Action.MANAGE_PROTECTED)
        return Response(shapes.protected_tag(protection.protected_tag(found, name)))

    def delete(self, _request: Request, project: Reference, name: str) -> Response:
        found = self.project(project, Action.MANAGE_PROTECTED)
        protection.unprotect(protection.protected_tag(found, name))
        return self.no_content()


class ProtectBranch(BranchEndpoint):
    """The older way, which names one branch and answers with it."""

    def put(self, _request: Request, project: Reference, branch: str) -> Response:
        found, rules = self.project_and_rules(project, Action.MANAGE_PROTECTED)
        ref = self.find(found, branch)
        push = Role.DEVELOPER if self.parameters.flag("developers_can_push") else Role.MAINTAINER
        merge = Role.DEVELOPER if self.parameters.flag("developers_can_merge") else Role.MAINTAINER
        rule = _rule_of_name(found, branch)
        if rule is None:
            protection.protect_branch(found, branch, push_role=push, merge_role=merge)
        else:
            protection.set_protected_branch(rule, push_role=push, merge_role=merge)
        return Response(self.branch_shape(found, rules, ref))


class UnprotectBranch(BranchEndpoint):
    def put(self, _request: Request, project: Reference, branch: str) -> Response:
        found, rules = self.project_and_rules(project, Action.MANAGE_PROTECTED)
        ref = self.find(found, branch)
        rule = _rule_of_name(found, branch)
        if rule is not None:
            protection.unprotect(rule)
        return Response(self.branch_shape(found, rules, ref))


def _rule_of_name(project: Project, branch: str) -> ProtectedBranch | None:
    """Compared here and not in the database, to which a name of other bytes than UTF-8 cannot be sent."""
    return next((rule for rule in protected_branches_of(project) if rule.pattern == branch), None)


def _push_role(parameters: Parameters) -> Role | None:
    return _role(parameters, "push_access_level", "allowed_to_push")


def _merge_role(parameters: Parameters) -> Role | None:
    return _role(parameters, "merge_access_level", "allowed_to_merge")


def _role(parameters: Parameters, single: str, several: str) -> Role | None:
    """The role of the one parameter, or the least one that the list names."""
    listed = [role_in(each, "access_level") for each in parameters.mappings(several) or ()]
    roles = [role for role in listed if role is not None]
    return min(roles) if roles else role_in(parameters, single)
