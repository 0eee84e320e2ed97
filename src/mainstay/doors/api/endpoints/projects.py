"""Projects and forks."""

from functools import partial

from django.db import DatabaseError
from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.access.actors import Actor
from mainstay.access.roles import Visibility
from mainstay.doors.api.endpoint import find_user
from mainstay.doors.api.endpoints.project_endpoint import ProjectEndpoint
from mainstay.doors.api.endpoints.project_lists import narrowed, ordered, visibility_in
from mainstay.doors.api.endpoints.project_settings import (
    check_creatable,
    description_in,
    name_and_path,
    settings_in,
)
from mainstay.doors.api.errors import WrongField, about
from mainstay.doors.api.pagination import keyset_of
from mainstay.doors.api.parameters import Parameters
from mainstay.doors.api.paths import Reference, reference
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.logs import get_logger
from mainstay.git.objectnames import RefName, ref_name
from mainstay.product.accounts.lookup import User, actor_of, require, user_of
from mainstay.product.accounts.writing import writing
from mainstay.product.projects import services
from mainstay.product.projects.lookup import (
    Namespace,
    Project,
    namespace_for,
    project_for,
    projects_visible_to,
)
from mainstay.repository.browse import BRANCHES, Signature
from mainstay.repository.write import branch_ref

log = get_logger()

ACCEPTED = {"message": "202 Accepted"}


class ProjectList(ProjectEndpoint):
    """Pages of projects, narrowed by the parameters that all such lists share."""

    def page_of_projects(self, found: object) -> Response:
        shapes = partial(self.shapes, simple=self.parameters.flag("simple"))
        keyset = keyset_of(self.parameters)
        chosen = narrowed(found, self.parameters, self.actor, self.kit.clock)
        if keyset is not None:
            return self.keyset_page(chosen, keyset, shapes)
        return self.shaped_page(ordered(chosen, self.parameters), shapes)


class Projects(ProjectList):
    def get(self, _request: Request) -> Response:
        return self.page_of_projects(projects_visible_to(self.actor, clock=self.kit.clock))

    def post(self, _request: Request) -> Response:
        return self.created(self.shape(self.create_for(user_of(self.actor), self.actor)))

    def create_for(self, user: User, actor: Actor) -> Project:
        """Create what the parameters describe, for `user`, as far as `actor` may."""
        check_creatable(self.parameters)
        name, path = name_and_path(self.parameters)
        branch = self.parameters.maybe_text("default_branch")
        namespace = _namespace(self.parameters, actor, user)
        with about("path"):
            project = services.create_project(
                namespace,
                path=path,
                name=name,
                by=actor,
                creator=user,
                visibility=visibility_in(self.parameters) or Visibility.PRIVATE,
                description=self.parameters.maybe_text("description") or "",
                head=branch_ref(branch or "main"),
                settings=settings_in(self.parameters),
                clock=self.kit.clock,
            )
        if self.parameters.flag("initialize_with_readme"):
            self._add_readme(project, user, actor)
        return project

    def _add_readme(self, project: Project, user: User, actor: Actor) -> None:
        """The first commit. A project that cannot have it, or may not, is taken away: all or nothing."""
        text = f"# {project.name}\n" + (f"\n{project.description}\n" if project.description else "")
        _, rules = self.project_and_rules(Reference(project.id, None), Action.READ_PROJECT)
        try:
            self.kit.writer.initial_commit(
                project.repository_id,
                self.kit.ledger.repository(project.repository_id).head,
                files={"README.md": text.encode()},
                author=signature_of(user, self.kit.clock.now_ms()),
                message="Initial commit",
                rules=rules,
            )
        except Exception:
            self._take_away(project, actor)
            raise

    def _take_away(self, project: Project, actor: Actor) -> None:
        """What made the first commit fail is the answer, also when this fails for the same reason."""
        try:
            services.delete_project(project, by=actor)
        except (MainstayError, OutcomeUnknown, DatabaseError) as error:
            log.warning("api.half_made_project_stayed", project_id=project.id, reason=str(error))


class ProjectsForUser(Projects):
    """Administrators create projects for others."""

    def get(self, _request: Request, user: Reference) -> Response:  # type: ignore[override]  # another path
        owner = find_user(self.actor, user)
        found = projects_visible_to(self.actor, clock=self.kit.clock).filter(namespace__owner_id=owner.id)
        return self.page_of_projects(found)

    def post(self, _request: Request, user: Reference) -> Response:  # type: ignore[override]  # another path
        require(Action.ADMIN, self.actor)
        owner = find_user(self.actor, user)
        return self.created(self.shape(self.create_for(owner, actor_of(owner))))


class OneProject(ProjectEndpoint):
    def get(self, _request: Request, project: Reference) -> Response:
        return Response(self.shape(self.project(project, Action.READ_PROJECT)))

    def put(self, _request: Request, project: Reference) -> Response:
        found = self.project(project, Action.UPDATE_PROJECT)
        visibility = visibility_in(self.parameters)
        if visibility is not None and visibility != found.visibility:
            found = self.project(project, Action.CHANGE_VISIBILITY)
        self._place(found)
        with writing():
            self._set_default_branch(found)
            found = self._changed(found, visibility)
        return Response(self.shape(found))

    def _changed(self, project: Project, visibility: Visibility | None) -> Project:
        with about("project"):
            changed = services.set_project(
                project,
                by=self.actor,
                name=self.parameters.maybe_text("name") or None,
                description=description_in(self.parameters),
                visibility=visibility,
                settings=settings_in(self.parameters, features=project.features),
            )
        path = self.parameters.maybe_text("path")
        if not path or path == changed.path:
            return changed
        with about("path"):
            return services.rename_project(changed, path, by=self.actor)

    def _place(self, project: Project) -> None:
        """Which git nodes keep it warm is for administrators: it is they who have the nodes."""
        label = self.parameters.maybe_text("repository_storage")
        if label is not None:
            require(Action.ADMIN, self.actor)
            services.place_project(project, label, by=self.actor)

    def _set_default_branch(self, project: Project) -> None:
        wanted = self.parameters.maybe_text("default_branch")
        if not wanted:
            return
        if self.kit.browser.branch(project.repository_id, wanted) is None:
            raise WrongField("base", f"Could not change HEAD: branch '{wanted}' does not exist")
        services.set_default_branch(project, RefName(BRANCHES + ref_name(wanted)), by=self.actor)

    def delete(self, _request: Request, project: Reference) -> Response:
        services.delete_project(self.project(project, Action.DELETE_PROJECT), by=self.actor)
        return Response(ACCEPTED, status=202)


class Archive(ProjectEndpoint):
    archived = True

    def post(self, _request: Request, project: Reference) -> Response:
        found = self.project(project, Action.ARCHIVE_PROJECT)
        changed = services.set_project(found, by=self.actor, archived=self.archived)
        return self.created(self.shape(changed))


class Unarchive(Archive):
    archived = False


class Transfer(ProjectEndpoint):
    def put(self, _request: Request, project: Reference) -> Response:
        found = self.project(project, Action.TRANSFER_PROJECT)
        target = reference(self.parameters.text("namespace"))
        namespace = namespace_for(self.actor, target.key, Action.CREATE_PROJECT, clock=self.kit.clock)
        with about("path"):
            return Response(self.shape(services.transfer_project(found, namespace, by=self.actor)))


class Fork(ProjectEndpoint):
    def post(self, _request: Request, project: Reference) -> Response:
        source = self.project(project, Action.FORK_PROJECT)
        # Who may not read the code may not carry it away by a fork either.
        project_for(self.actor, source.id, Action.READ_CODE, clock=self.kit.clock)
        user = user_of(self.actor)
        names = ("namespace_id", "namespace_path", "namespace")
        namespace = _namespace(self.parameters, self.actor, user, names=names)
        fork = services.fork_project(
            source,
            namespace,
            by=self.actor,
            path=self.parameters.maybe_text("path") or "",
            name=self.parameters.maybe_text("name") or "",
            visibility=visibility_in(self.parameters) or _narrower(source, namespace),
            creator=user,
            clock=self.kit.clock,
        )
        return self.created(self.shape(fork))


class Forks(ProjectList):
    def get(self, _request: Request, project: Reference) -> Response:
        source = self.project(project, Action.READ_PROJECT)
        found = projects_visible_to(self.actor, clock=self.kit.clock).filter(forked_from_id=source.id)
        return self.page_of_projects(found)


def _narrower(source: Project, namespace: Namespace) -> Visibility:
    """As visible as the source, as far as the place of the fork lets it be."""
    if namespace.kind == Namespace.Kind.USER:
        return Visibility(source.visibility)
    return Visibility(min(source.visibility, namespace.visibility))


def signature_of(user: User, now_ms: int) -> Signature:
    """How commits and tags that somebody makes here are signed."""
    email = user.email or f"{user.username}@users.noreply.localhost"
    return Signature(name=user.name, email=email, at_s=now_ms // 1000)


def _namespace(
    parameters: Parameters, actor: Actor, user: User, *, names: tuple[str, ...] = ("namespace_id",)
) -> Namespace:
    """Where the new project goes: what a parameter names, by id or path, else the user's own namespace."""
    wanted = next((text for name in names if (text := parameters.maybe_text(name))), None)
    key = user.username if wanted is None else reference(wanted).key
    return namespace_for(actor, key, Action.CREATE_PROJECT)
