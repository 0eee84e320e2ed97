"""What all endpoints below a project share: finding it, and showing it to this actor."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mainstay.access.actions import Action
from mainstay.access.actors import Kind
from mainstay.access.policy import PushRules
from mainstay.access.roles import Role
from mainstay.cluster import labels
from mainstay.doors.api.endpoint import Endpoint
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes.git import ref_text
from mainstay.doors.api.shapes.projects import ProjectFacts, project_full, project_simple
from mainstay.git.objectnames import RefName
from mainstay.product.projects import locate
from mainstay.product.projects.lookup import (
    Project,
    project_for,
    project_with_standing,
    projects_visible_to,
    roles_in,
)
from mainstay.repository.browse import BRANCHES


class ProjectEndpoint(Endpoint):
    anonymous_may_read = True

    def project(self, wanted: Reference, action: Action) -> Project:
        return project_for(self.actor, wanted.key, action, clock=self.kit.clock)

    def project_and_rules(self, wanted: Reference, action: Action) -> tuple[Project, PushRules]:
        """The project, and what a change of its refs by this actor is judged by."""
        project, facts = project_with_standing(self.actor, wanted.key, action, clock=self.kit.clock)
        return project, locate.push_rules(self.kit.database, self.actor, facts)

    def shape(self, project: Project) -> dict[str, Any]:
        return self.shapes([project])[0]

    def shapes(self, projects: Sequence[Project], *, simple: bool = False) -> list[dict[str, Any]]:
        """Shape projects together. The anonymous see the simple form, as in GitLab."""
        facts = self._facts(projects)
        form = project_simple if simple or self.actor.kind is Kind.ANONYMOUS else project_full
        addresses = self.addresses
        return [form(project, facts[project.id], addresses) for project in projects]

    def _facts(self, projects: Sequence[Project]) -> dict[int, ProjectFacts]:
        visible = projects_visible_to(self.actor, clock=self.kit.clock)
        sources = visible.in_bulk({each.forked_from_id for each in projects if each.forked_from_id})
        forks = Counter(
            visible.filter(forked_from_id__in=[each.id for each in projects])
            .order_by()
            .values_list("forked_from_id", flat=True)
        )
        roles = roles_in(self.actor, projects, clock=self.kit.clock)
        repository_ids = [each.repository_id for each in projects]
        heads = self.kit.browser.default_branches(repository_ids)
        storages = labels.labels_of(self.kit.database, repository_ids)
        return {
            project.id: ProjectFacts(
                default_branch=_short(heads.get(project.repository_id)),
                forks=forks[project.id],
                project_role=self._role_here(project, roles[project.id][0]),
                group_role=roles[project.id][1],
                source=sources.get(project.forked_from_id or 0),
                storage=storages.get(project.repository_id, labels.DEFAULT),
            )
            for project in projects
        }

    def _role_here(self, project: Project, by_membership: Role) -> Role:
        """In one's own namespace one is the owner without being a member."""
        is_owner = self.actor.kind is Kind.USER and project.namespace.owner_id == self.actor.id
        return Role.OWNER if is_owner else by_membership


def _short(branch: RefName | None) -> str | None:
    return None if branch is None else ref_text(branch, BRANCHES)
