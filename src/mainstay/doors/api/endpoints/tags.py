"""Tags of a project."""

from collections.abc import Sequence
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.access.policy import matches
from mainstay.doors.api.endpoints.project_endpoint import ProjectEndpoint
from mainstay.doors.api.endpoints.projects import signature_of
from mainstay.doors.api.errors import BadRequest, NoSuchThing
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes import git as shapes
from mainstay.git.objectnames import ref_name
from mainstay.product.accounts.lookup import user_of
from mainstay.product.projects.lookup import Project, protected_tags_of
from mainstay.repository.browse import OBJECTS_MAX, TAGS
from mainstay.repository.write import BadRefName, RefMoved, tag_ref
from mainstay.storage.ledger import Ref


class TagEndpoint(ProjectEndpoint):
    def tag_shapes(self, project: Project, refs: Sequence[Ref]) -> list[dict[str, Any]]:
        """Shape tags together: one process reads the tag objects, one their commits."""
        repository_id = project.repository_id
        annotated = self.kit.browser.read_tags(repository_id, [ref.oid for ref in refs if ref.peeled])
        commits = self.kit.browser.read_commits(repository_id, [ref.peeled or ref.oid for ref in refs])
        patterns = [rule.pattern for rule in protected_tags_of(project)]
        url = self.addresses.web(project.full_path)
        return [
            shapes.tag(
                name := shapes.ref_text(ref.name, TAGS),
                ref.oid,
                commits.get(ref.peeled or ref.oid),
                annotated.get(ref.oid),
                is_protected=any(matches(pattern, name) for pattern in patterns),
                project_url=url,
            )
            for ref in refs
        ]

    def find(self, project: Project, name: str) -> Ref:
        ref = self.kit.browser.tag(project.repository_id, name)
        if ref is None:
            raise NoSuchThing("Tag")
        return ref


class Tags(TagEndpoint):
    def get(self, _request: Request, project: Reference) -> Response:
        found = self.project(project, Action.READ_CODE)
        search = ref_name(self.parameters.search()).lower()
        refs = [
            ref
            for ref in self.kit.browser.tags(found.repository_id)
            if _fits(ref.name.removeprefix(TAGS).lower(), search)
        ]
        return self.shaped_page(self._sorted(found, refs), lambda part: self.tag_shapes(found, part))

    def post(self, _request: Request, project: Reference) -> Response:
        found, rules = self.project_and_rules(project, Action.CREATE_TAG)
        self.parameters.require("tag_name", "ref")
        start, short = self.parameters.text("ref"), self.parameters.text("tag_name")
        at = self.kit.browser.resolve(found.repository_id, start)
        if at is None:
            raise BadRequest(f"Target {start} is invalid")
        try:
            name = tag_ref(short)
            self.kit.writer.create_tag(
                found.repository_id,
                name,
                at,
                rules=rules,
                message=self.parameters.maybe_text("message") or "",
                tagger=signature_of(user_of(self.actor), self.kit.clock.now_ms()),
            )
        except BadRefName as error:
            raise BadRequest("Tag name invalid") from error
        except RefMoved as error:
            reason = f"Tag {short} already exists" if "already" in str(error) else str(error)
            raise BadRequest(reason) from error
        return self.created(self.tag_shapes(found, [self.find(found, short)])[0])

    def _sorted(self, project: Project, refs: list[Ref]) -> list[Ref]:
        """Newest first unless asked otherwise; by name where there are too many to read them all."""
        order = self.parameters.maybe_choice("order_by", ("name", "updated", "version")) or "updated"
        descending = (self.parameters.maybe_choice("sort", ("asc", "desc")) or "desc") == "desc"
        if order != "updated" or len(refs) > OBJECTS_MAX:
            return refs[::-1] if descending else refs
        commits = self.kit.browser.read_commits(
            project.repository_id, [ref.peeled or ref.oid for ref in refs]
        )
        dates = {oid: commit.committer.at_s for oid, commit in commits.items()}
        return sorted(
            refs, key=lambda ref: (dates.get(ref.peeled or ref.oid, 0), ref.name), reverse=descending
        )


class OneTag(TagEndpoint):
    def get(self, _request: Request, project: Reference, tag: str) -> Response:
        found = self.project(project, Action.READ_CODE)
        return Response(self.tag_shapes(found, [self.find(found, tag)])[0])

    def delete(self, _request: Request, project: Reference, tag: str) -> Response:
        found, rules = self.project_and_rules(project, Action.DELETE_TAG)
        self.kit.writer.delete_ref(found.repository_id, self.find(found, tag).name, rules=rules)
        return self.no_content()


def _fits(name: bytes, search: bytes) -> bool:
    if search.startswith(b"^"):
        return name.startswith(search[1:])
    if search.endswith(b"$"):
        return name.endswith(search[:-1])
    return search in name
