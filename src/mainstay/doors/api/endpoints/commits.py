"""Commits of a project, as far as branches and tags need them."""

from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.doors.api import pagination
from mainstay.doors.api.endpoints.project_endpoint import ProjectEndpoint
from mainstay.doors.api.errors import NoSuchThing
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes import git as shapes


class Commits(ProjectEndpoint):
    """The history of a branch, tag or commit. The total is not told: counting costs the whole history."""

    def get(self, _request: Request, project: Reference) -> Response:
        found = self.project(project, Action.READ_CODE)
        page = pagination.page_of(self.parameters)
        revision = self.parameters.maybe_text("ref_name")
        start = self.kit.browser.resolve(found.repository_id, revision or "HEAD")
        if start is None:
            if revision:
                raise NoSuchThing("Commit")
            return Response([])
        history = self.kit.browser.history(
            found.repository_id, start, skip=page.offset, limit=page.per_page + 1
        )
        url = self.addresses.web(found.full_path)
        headers = pagination.countless_headers(
            page, has_more=len(history) > page.per_page, url=self.own_url(), query=self.own_query()
        )
        return Response([shapes.commit(each, url) for each in history[: page.per_page]], headers=headers)


class OneCommit(ProjectEndpoint):
    def get(self, _request: Request, project: Reference, sha: str) -> Response:
        found = self.project(project, Action.READ_CODE)
        oid = self.kit.browser.resolve(found.repository_id, sha)
        commit = self.kit.browser.read_commits(found.repository_id, [oid]).get(oid) if oid else None
        if commit is None:
            raise NoSuchThing("Commit")
        shape = shapes.commit(commit, self.addresses.web(found.full_path))
        return Response(shapes.commit_detail(shape, found.id))
