"""Branches of a project."""

from collections.abc import Sequence
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.access.policy import Allow, PushRules, RefAction, decide_ref_update, matches
from mainstay.doors.api.endpoints.project_endpoint import ProjectEndpoint
from mainstay.doors.api.endpoints.projects import ACCEPTED
from mainstay.doors.api.errors import BadRequest, NoSuchThing
from mainstay.doors.api.parameters import Parameters, WrongParameter
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes import git as shapes
from mainstay.git.objectnames import RefName, ref_name
from mainstay.product.projects.lookup import Project, ProtectedBranch, protected_branches_of
from mainstay.repository.browse import BRANCHES
from mainstay.repository.write import BadRefName, RefMoved, branch_ref
from mainstay.storage.ledger import Ref

_MERGED_MAX = 1000
"""Branches that one request deletes."""


class BranchEndpoint(ProjectEndpoint):
    def branch_shapes(self, project: Project, rules: PushRules, refs: Sequence[Ref]) -> list[dict[str, Any]]:
        """Shape branches together: one process reads their commits, one tells which are merged."""
        commits = self.kit.browser.read_commits(project.repository_id, [ref.oid for ref in refs])
        default = self.kit.browser.default_branch(project.repository_id)
        merged = self._merged(project, refs, default)
        protections = list(protected_branches_of(project))
        url = self.addresses.web(project.full_path)
        return [
            shapes.branch(
                shapes.ref_text(ref.name, BRANCHES),
                commits.get(ref.oid),
                is_default=ref.name == default,
                is_merged=ref.name in merged,
                can_push=isinstance(decide_ref_update(ref.name, RefAction.UPDATE, rules), Allow),
                rules=_matching(protections, ref.name),
                project_url=url,
            )
            for ref in refs
        ]

    def branch_shape(self, project: Project, rules: PushRules, ref: Ref) -> dict[str, Any]:
        return self.branch_shapes(project, rules, [ref])[0]

    def find(self, project: Project, name: str) -> Ref:
        ref = self.kit.browser.branch(project.repository_id, name)
        if ref is None:
            raise NoSuchThing("Branch")
        return ref

    def _merged(self, project: Project, refs: Sequence[Ref], default: RefName | None) -> set[RefName]:
        """Branches whose commits are all in the default branch; which is never called merged itself."""
        others = [ref for ref in refs if ref.name != default]
        if default is None or not others:
            return set()
        (tip,) = self.kit.ledger.refs_named(project.repository_id, [default])[1]
        ahead = self.kit.browser.not_merged(project.repository_id, [ref.oid for ref in others], tip.oid)
        return {ref.name for ref in others if ref.oid not in ahead}


class Branches(BranchEndpoint):
    def get(self, _request: Request, project: Reference) -> Response:
        found, rules = self.project_and_rules(project, Action.READ_CODE)
        refs = _searched(self.kit.browser.branches(found.repository_id), self.parameters)
        refs = self._sorted(found, refs)
        return self.shaped_page(refs, lambda part: self.branch_shapes(found, rules, part))

    def post(self, _request: Request, project: Reference) -> Response:
        found, rules = self.project_and_rules(project, Action.CREATE_BRANCH)
        self.parameters.require("branch", "ref")
        start = self.parameters.text("ref")
        at = self.kit.browser.resolve(found.repository_id, start)
        if at is None:
            raise BadRequest(f"Invalid reference name: {start}")
        try:
            name = branch_ref(self.parameters.text("branch"))
            self.kit.writer.create_branch(found.repository_id, name, at, rules=rules)
        except BadRefName as error:
            raise BadRequest("Branch name is invalid") from error
        except RefMoved as error:
            raise BadRequest(_why_not_created(error)) from error
        return self.created(self.branch_shape(found, rules, Ref(name, at)))

    def _sorted(self, project: Project, refs: list[Ref]) -> list[Ref]:
        """By name unless asked otherwise; by date all their commits have to be read."""
        order = self.parameters.maybe_choice("sort", ("name_asc", "updated_asc", "updated_desc"))
        if order in (None, "name_asc"):
            return refs
        commits = self.kit.browser.read_commits(project.repository_id, [ref.oid for ref in refs])
        dates = {oid: commit.committer.at_s for oid, commit in commits.items()}
        return sorted(refs, key=lambda ref: dates.get(ref.oid, 0), reverse=order == "updated_desc")


class OneBranch(BranchEndpoint):
    def get(self, _request: Request, project: Reference, branch: str) -> Response:
        found, rules = self.project_and_rules(project, Action.READ_CODE)
        return Response(self.branch_shape(found, rules, self.find(found, branch)))

    def delete(self, _request: Request, project: Reference, branch: str) -> Response:
        found, rules = self.project_and_rules(project, Action.DELETE_BRANCH)
        self.kit.writer.delete_ref(found.repository_id, self.find(found, branch).name, rules=rules)
        return self.no_content()


class MergedBranches(BranchEndpoint):
    def delete(self, _request: Request, project: Reference) -> Response:
        """Delete every branch that is merged, protected ones excepted."""
        found, rules = self.project_and_rules(project, Action.DELETE_BRANCH)
        refs = self.kit.browser.branches(found.repository_id)[:_MERGED_MAX]
        default = self.kit.browser.default_branch(found.repository_id)
        protections = list(protected_branches_of(found))
        for name in sorted(self._merged(found, refs, default)):
            if not _matching(protections, name):
                self.kit.writer.delete_ref(found.repository_id, name, rules=rules)
        return Response(ACCEPTED, status=202)


def _matching(rules: Sequence[ProtectedBranch], name: RefName) -> list[ProtectedBranch]:
    short = name.removeprefix(BRANCHES).decode("utf-8", "surrogateescape")
    return [rule for rule in rules if matches(rule.pattern, short)]


def _searched(refs: list[Ref], parameters: Parameters) -> list[Ref]:
    """`word` anywhere, `^word` at the start, `word$` at the end."""
    if parameters.maybe_text("regex"):
        # Python's engine takes exponential time on a hostile pattern, so none is run.
        raise WrongParameter("regex is not supported; use search, with ^ for the start or $ for the end")
    search = ref_name(parameters.search()).lower()
    if search.startswith(b"^"):
        return [ref for ref in refs if _short(ref).startswith(search[1:])]
    if search.endswith(b"$"):
        return [ref for ref in refs if _short(ref).endswith(search[:-1])]
    return [ref for ref in refs if search in _short(ref)]


def _short(ref: Ref) -> bytes:
    return ref.name.removeprefix(BRANCHES).lower()


def _why_not_created(error: RefMoved) -> str:
    return "Branch already exists" if "already" in str(error) else str(error)
