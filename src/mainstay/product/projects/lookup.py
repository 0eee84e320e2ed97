"""Finding groups and projects for the API, checked: what the actor may not see is not found.

The role of an actor is computed in one place, `locate`, for Git and API alike. The models are named here
too, because their instances are what these functions return.
"""

from collections.abc import Iterable, Mapping

from django.db import connection
from django.db.models import Q, QuerySet

from mainstay.access.actors import Actor, Kind
from mainstay.access.policy import Action, Decision, Deny, Standing, decide
from mainstay.access.roles import Role, Visibility
from mainstay.access.scopes import READ_API_SCOPES, holds
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import NotFound
from mainstay.product.accounts.lookup import require
from mainstay.product.accounts.models import DeployToken, SshKey
from mainstay.product.projects import locate
from mainstay.product.projects.identity import chain_of
from mainstay.product.projects.locate import NoSuchProject, NotPermitted
from mainstay.product.projects.models import (
    DeployKeyProject,
    Member,
    Namespace,
    Project,
    ProtectedBranch,
    ProtectedTag,
)
from mainstay.storage.database.django import DjangoDatabase

__all__ = [
    "DeployKeyProject",
    "Member",
    "Namespace",
    "NoSuchGroup",
    "NoSuchProject",
    "NotPermitted",
    "Project",
    "ProtectedBranch",
    "ProtectedTag",
    "all_deploy_keys",
    "all_deploy_tokens",
    "all_members_of",
    "deploy_keys_of",
    "deploy_tokens_of",
    "grants_of",
    "group_for",
    "groups_visible_to",
    "groups_with_role",
    "members_of",
    "namespace_for",
    "namespaces_visible_to",
    "project_for",
    "project_with_standing",
    "projects_visible_to",
    "projects_with_role",
    "protected_branches_of",
    "protected_tags_of",
    "roles_in",
    "standing_in_group",
    "standing_in_project",
]


class NoSuchGroup(NotFound):
    def __init__(self) -> None:
        super().__init__("no such group or namespace, or you may not see it")


# One thing


def project_for(
    actor: Actor, id_or_path: int | str, action: Action = Action.READ_PROJECT, *, clock: Clock = SYSTEM
) -> Project:
    """The project, for an actor who may do `action`. Raises `NoSuchProject`, `NotPermitted`."""
    return project_with_standing(actor, id_or_path, action, clock=clock)[0]


def project_with_standing(
    actor: Actor, id_or_path: int | str, action: Action = Action.READ_PROJECT, *, clock: Clock = SYSTEM
) -> tuple[Project, locate.ProjectFacts]:
    """`project_for`, and what the actor is there."""
    project = _projects().filter(_is(id_or_path)).first()
    if project is None:
        raise NoSuchProject(str(id_or_path))
    facts = locate.facts_of(DjangoDatabase(), actor, project.full_path, clock=clock)
    if facts is None:
        raise NoSuchProject(str(id_or_path))
    decision = decide(action, actor, facts.standing)
    if isinstance(decision, Deny):
        raise NoSuchProject(str(id_or_path)) if decision.hidden else NotPermitted(decision.because)
    return project, facts


def group_for(
    actor: Actor, id_or_path: int | str, action: Action = Action.READ_GROUP, *, clock: Clock = SYSTEM
) -> Namespace:
    """The group, for an actor who may do `action`. Raises `NoSuchGroup`, `NotPermitted`."""
    group = (
        Namespace.objects.select_related("parent").filter(_is(id_or_path), kind=Namespace.Kind.GROUP).first()
    )
    return _checked(actor, group, action, clock)


def namespace_for(
    actor: Actor, id_or_path: int | str, action: Action = Action.READ_GROUP, *, clock: Clock = SYSTEM
) -> Namespace:
    """A group or a user's namespace; with `CREATE_PROJECT` one that the actor may create projects in."""
    namespace = Namespace.objects.select_related("parent", "owner").filter(_is(id_or_path)).first()
    return _checked(actor, namespace, action, clock)


def standing_in_project(actor: Actor, project: Project, *, clock: Clock = SYSTEM) -> Standing:
    facts = locate.facts_of(DjangoDatabase(), actor, project.full_path, clock=clock)
    if facts is None:
        raise NoSuchProject(project.full_path)
    return facts.standing


def standing_in_group(actor: Actor, group: Namespace, *, clock: Clock = SYSTEM) -> Standing:
    """Who is in something below a private group may see the group, as a guest."""
    standing = locate.group_standing(DjangoDatabase(), actor, group.full_path, clock=clock)
    if standing is None:
        raise NoSuchGroup
    is_below = standing.role is Role.NONE and group.id in _seen_from_below(actor, clock)
    return Standing(role=Role.GUEST, visibility=standing.visibility) if is_below else standing


# Many things


def projects_visible_to(actor: Actor, *, clock: Clock = SYSTEM) -> QuerySet[Project]:
    """All projects whose existence the actor may know, by id. Raises `NotPermitted` for a narrow token."""
    _check_scope(actor)
    projects = _projects().order_by("id")
    if actor.is_admin or actor.kind is Kind.SYSTEM:
        return projects
    visible = Q(visibility__gte=_least_visibility(actor))
    if actor.kind is Kind.USER:
        visible |= Q(namespace_id__in=_at_and_below(_groups_of(actor, clock)))
        visible |= Q(id__in=_memberships(actor, clock).filter(project__isnull=False).values("project_id"))
        visible |= Q(namespace__owner_id=actor.id)
    return projects.filter(visible)


def groups_visible_to(actor: Actor, *, clock: Clock = SYSTEM) -> QuerySet[Namespace]:
    """All groups whose existence the actor may know, by id."""
    return namespaces_visible_to(actor, clock=clock).filter(kind=Namespace.Kind.GROUP)


def namespaces_visible_to(actor: Actor, *, clock: Clock = SYSTEM) -> QuerySet[Namespace]:
    """All groups and users' namespaces whose existence the actor may know, by id."""
    _check_scope(actor)
    namespaces = Namespace.objects.select_related("parent", "owner").order_by("id")
    if actor.is_admin or actor.kind is Kind.SYSTEM:
        return namespaces
    visible = Q(visibility__gte=_least_visibility(actor))
    if actor.kind is Kind.USER:
        visible |= Q(id__in=_at_and_below(_groups_of(actor, clock)) | _seen_from_below(actor, clock))
        visible |= Q(owner_id=actor.id)
    return namespaces.filter(visible)


def projects_with_role(actor: Actor, least: Role, *, clock: Clock = SYSTEM) -> QuerySet[Project]:
    """The projects in which the actor is at least `least` by ownership or membership, here or above."""
    _check_scope(actor)
    if actor.kind is not Kind.USER:
        return _projects().none()
    enough = _memberships(actor, clock).filter(access_level__gte=least)
    groups = list(enough.filter(namespace__isnull=False).values_list("namespace_id", flat=True))
    theirs = Q(namespace__owner_id=actor.id) | Q(namespace_id__in=_at_and_below(groups))
    theirs |= Q(id__in=enough.filter(project__isnull=False).values("project_id"))
    return _projects().order_by("id").filter(theirs)


def groups_with_role(actor: Actor, least: Role, *, clock: Clock = SYSTEM) -> QuerySet[Namespace]:
    """The groups in which the actor is at least `least` by membership, here or above."""
    _check_scope(actor)
    groups = Namespace.objects.select_related("parent", "owner").order_by("id")
    if actor.kind is not Kind.USER:
        return groups.none()
    enough = _memberships(actor, clock).filter(access_level__gte=least, namespace__isnull=False)
    places = list(enough.values_list("namespace_id", flat=True))
    return groups.filter(kind=Namespace.Kind.GROUP, id__in=_at_and_below(places))


def roles_in(
    actor: Actor, projects: Iterable[Project], *, clock: Clock = SYSTEM
) -> Mapping[int, tuple[Role, Role]]:
    """Per project id: the role by membership in the project, and by membership in a group above it."""
    listed = list(projects)
    if actor.kind is not Kind.USER:
        return {project.id: (Role.NONE, Role.NONE) for project in listed}
    memberships = _memberships(actor, clock)
    here = dict(
        memberships.filter(project_id__in=[each.id for each in listed]).values_list(
            "project_id", "access_level"
        )
    )
    groups = dict(
        memberships.filter(namespace__isnull=False).values_list("namespace__full_path_lower", "access_level")
    )
    return {
        project.id: (Role(here.get(project.id, Role.NONE)), _role_above(project.full_path_lower, groups))
        for project in listed
    }


def members_of(place: Namespace | Project) -> QuerySet[Member]:
    """Direct members, blocked ones included, by id of the user."""
    members = Member.objects.select_related("user", "created_by").order_by("user_id")
    return members.filter(namespace=place) if isinstance(place, Namespace) else members.filter(project=place)


def all_members_of(place: Namespace | Project) -> list[Member]:
    """Direct and inherited members; of somebody who is both, the row of the highest role."""
    namespace = place if isinstance(place, Namespace) else place.namespace
    wanted = Q(namespace__in=[each.id for each in chain_of(namespace)])
    if isinstance(place, Project):
        wanted |= Q(project=place)
    highest: dict[int, Member] = {}
    for member in Member.objects.filter(wanted).select_related("user", "created_by").order_by("access_level"):
        highest[member.user_id] = member
    return [highest[user_id] for user_id in sorted(highest)]


def protected_branches_of(project: Project) -> QuerySet[ProtectedBranch]:
    return ProtectedBranch.objects.filter(project=project).order_by("id")


def protected_tags_of(project: Project) -> QuerySet[ProtectedTag]:
    return ProtectedTag.objects.filter(project=project).order_by("id")


def deploy_keys_of(project: Project) -> QuerySet[DeployKeyProject]:
    return DeployKeyProject.objects.filter(project=project).select_related("key").order_by("key_id")


def deploy_tokens_of(place: Namespace | Project) -> QuerySet[DeployToken]:
    """Those of this very place, by id."""
    tokens = DeployToken.objects.order_by("id")
    if isinstance(place, Namespace):
        return tokens.filter(grant__namespace=place)
    return tokens.filter(grant__project=place)


def all_deploy_keys(actor: Actor) -> QuerySet[SshKey]:
    """The deploy keys of the whole instance, by id; for administrators."""
    require(Action.ADMIN, actor)
    return SshKey.objects.filter(kind=SshKey.Kind.DEPLOY).order_by("id")


def all_deploy_tokens(actor: Actor) -> QuerySet[DeployToken]:
    """The deploy tokens of the whole instance, by id; for administrators."""
    require(Action.ADMIN, actor)
    return DeployToken.objects.order_by("id")


def grants_of(keys: Iterable[SshKey]) -> QuerySet[DeployKeyProject]:
    """What these deploy keys open, with the projects."""
    opened = DeployKeyProject.objects.filter(key__in=[key.id for key in keys])
    return opened.select_related("project__namespace").order_by("id")


def _projects() -> QuerySet[Project]:
    return Project.objects.select_related("namespace__owner", "namespace__parent", "creator", "forked_from")


def _is(id_or_path: int | str) -> Q:
    if isinstance(id_or_path, int):
        return Q(id=id_or_path)
    return Q(full_path_lower=id_or_path.lower().replace("\0", ""))


def _checked(actor: Actor, namespace: Namespace | None, action: Action, clock: Clock) -> Namespace:
    if namespace is None:
        raise NoSuchGroup
    decision: Decision = decide(action, actor, standing_in_group(actor, namespace, clock=clock))
    if isinstance(decision, Deny):
        raise NoSuchGroup if decision.hidden else NotPermitted(decision.because)
    return namespace


def _check_scope(actor: Actor) -> None:
    if not holds(actor.scopes, READ_API_SCOPES):
        raise NotPermitted("the token lacks a scope for this; it needs one of: api, read_api")


def _least_visibility(actor: Actor) -> Visibility:
    return Visibility.INTERNAL if actor.kind is Kind.USER else Visibility.PUBLIC


def _memberships(actor: Actor, clock: Clock) -> QuerySet[Member]:
    live = Q(expires_at_ms__isnull=True) | Q(expires_at_ms__gt=clock.now_ms())
    return Member.objects.filter(live, user_id=actor.id)


def _groups_of(actor: Actor, clock: Clock) -> list[int]:
    groups = _memberships(actor, clock).filter(namespace__isnull=False)
    return list(groups.values_list("namespace_id", flat=True))


def _seen_from_below(actor: Actor, clock: Clock) -> set[int]:
    """Groups above the groups and projects that the actor is a member of."""
    if actor.kind is not Kind.USER:
        return set()
    of_projects = _memberships(actor, clock).filter(project__isnull=False)
    places = [*_groups_of(actor, clock), *of_projects.values_list("project__namespace_id", flat=True)]
    return _closure(places, "n.id = w.parent_id")


def _at_and_below(namespace_ids: Iterable[int]) -> set[int]:
    return _closure(list(namespace_ids), "n.parent_id = w.id")


def _closure(namespace_ids: list[int], step: str) -> set[int]:
    """The namespaces reached from these by repeating `step`, these included."""
    if not namespace_ids:
        return set()
    marks = ", ".join(["%s"] * len(namespace_ids))
    statement = f"""
        WITH RECURSIVE w(id, parent_id) AS (
          SELECT id, parent_id FROM projects_namespace WHERE id IN ({marks})
          UNION SELECT n.id, n.parent_id FROM projects_namespace n JOIN w ON {step}
        ) SELECT id FROM w
    """  # noqa: S608 - marks, and one of the two conditions above
    with connection.cursor() as cursor:
        cursor.execute(statement, namespace_ids)
        return {row[0] for row in cursor.fetchall()}


def _role_above(full_path_lower: str, groups: Mapping[str, int]) -> Role:
    segments = full_path_lower.split("/")[:-1]
    above = ["/".join(segments[: count + 1]) for count in range(len(segments))]
    return Role(max((groups.get(path, 0) for path in above), default=0))
