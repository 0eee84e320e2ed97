"""What happens to groups and to the namespaces of users. Each function is one transaction.

Not here: whether the actor may (`access.policy`, asked by `lookup`), who is in a group (`membership`).
"""

from collections.abc import Iterable

from mainstay.access.actors import SYSTEM as BY_ITSELF
from mainstay.access.actors import Actor
from mainstay.access.roles import Role, Visibility
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.logs import get_logger
from mainstay.product.accounts.models import User
from mainstay.product.accounts.names import FULL_PATH_MAX, BadName, check_description, check_text
from mainstay.product.accounts.writing import writing
from mainstay.product.projects.identity import chain_of, claim
from mainstay.product.projects.models import Member, Namespace, Project
from mainstay.product.projects.places import (
    VisibilityTooWide,
    WrongPlace,
    check_visibility,
    full_path_in,
    locked,
    namespaces_below,
    projects_below,
    write_identities,
)
from mainstay.product.projects.services import delete_project

log = get_logger()


def create_group(
    *,
    path: str,
    creator: User,
    name: str = "",
    parent: Namespace | None = None,
    visibility: Visibility = Visibility.PRIVATE,
    description: str = "",
    clock: Clock = SYSTEM,
) -> Namespace:
    """A group, or a subgroup of `parent`; the creator becomes its owner.

    Raises `BadName`, `Taken`, `VisibilityTooWide`, `WrongPlace`.
    """
    group = Namespace(
        kind=Namespace.Kind.GROUP,
        name=check_text(name or path, what="the group name"),
        path=path,
        visibility=visibility,
        description=check_description(description),
        created_at_ms=clock.now_ms(),
    )
    with writing(taken=f"the path {path!r} is taken"):
        group.parent = None if parent is None else locked(parent)
        _check_parent(group.parent, visibility)
        group.full_path = full_path_in(group.parent, path, what="the group path")
        group.full_path_lower = group.full_path.lower()
        group.save(force_insert=True)
        claim(group)
        Member.objects.create(
            namespace=group, user=creator, access_level=Role.OWNER, created_at_ms=clock.now_ms()
        )
    log.info("projects.group_created", namespace_id=group.id, path=group.full_path)
    return group


def set_group(
    group: Namespace,
    *,
    name: str | None = None,
    description: str | None = None,
    visibility: Visibility | None = None,
    by: Actor = BY_ITSELF,
) -> Namespace:
    """Change what is given. Narrowing refuses while something inside is wider (`VisibilityTooWide`)."""
    with writing():
        inside = namespaces_below(group)
        projects = projects_below(inside[0])
        if name is not None:
            group.name = check_text(name, what="the group name")
        if description is not None:
            group.description = check_description(description)
        if visibility is not None:
            _check_parent(group.parent, visibility)
            _check_nothing_wider([*inside[1:], *projects], visibility)
            group.visibility = visibility
        group.save(update_fields=["name", "description", "visibility"])
        for project in projects:
            project.refresh_from_db(fields=["namespace"])
        write_identities(projects, by)
    return group


def rename_group(group: Namespace, path: str, *, by: Actor) -> Namespace:
    """Give the group another path; all paths below it change, too."""
    return _move_namespace(group, group.parent, path, by)


def transfer_group(group: Namespace, parent: Namespace | None, *, by: Actor) -> Namespace:
    """Put the group into another one, or (None) at the top."""
    _check_parent(parent, Visibility(group.visibility))
    if parent is not None and group.id in {each.id for each in chain_of(parent)}:
        raise WrongPlace("a group cannot be put into itself")
    return _move_namespace(group, parent, group.path, by)


def delete_group(group: Namespace, *, by: Actor) -> None:
    """Delete the group with every project and group in it."""
    with writing():
        inside = namespaces_below(group)
        for project in projects_below(inside[0]):
            delete_project(project, by=by)
        for namespace in sorted(inside, key=lambda each: -each.full_path.count("/")):
            namespace.delete()
    log.info("projects.group_deleted", path=group.full_path, by=by.label)


# Namespaces of users; `apps` connects these two to the events of `accounts`


def give_namespace(user: User) -> None:
    """Every user has a namespace of their name, in the transaction that creates them."""
    if Namespace.objects.filter(owner=user).exists():
        return
    namespace = Namespace(
        kind=Namespace.Kind.USER,
        owner=user,
        name=user.name,
        path=user.username,
        full_path=user.username,
        full_path_lower=user.username_lower,
        visibility=Visibility.PUBLIC,
        created_at_ms=user.created_at_ms,
    )
    namespace.save(force_insert=True)
    claim(namespace)


def move_namespace_of(user: User) -> None:
    """The namespace follows the user name."""
    _move_namespace(Namespace.objects.get(owner=user), None, user.username, BY_ITSELF)


def _move_namespace(namespace: Namespace, parent: Namespace | None, path: str, by: Actor) -> Namespace:
    what = "the group path" if namespace.kind == Namespace.Kind.GROUP else "the user name"
    with writing(taken=f"the path {path!r} is taken there"):
        if parent is not None:
            parent = locked(parent)
        after = full_path_in(parent, path, what=what)
        below = namespaces_below(namespace)
        top, before = below[0], below[0].full_path
        projects = projects_below(top)
        top.path, top.parent = path, parent
        moved: list[Namespace | Project] = [*below, *projects]
        for each in moved:
            _put(each, after + each.full_path[len(before) :])
        write_identities(projects_below(top), by)
    namespace.refresh_from_db()
    log.info("projects.namespace_moved", namespace_id=namespace.id, before=before, after=after, by=by.label)
    return namespace


def _put(thing: Namespace | Project, full_path: str) -> None:
    if len(full_path) > FULL_PATH_MAX:
        raise BadName(f"the path {full_path[:80]!r}… would be too long")
    thing.full_path, thing.full_path_lower = full_path, full_path.lower()
    thing.save()
    claim(thing)


def _check_parent(parent: Namespace | None, visibility: Visibility) -> None:
    if parent is None:
        return
    if parent.kind != Namespace.Kind.GROUP:
        raise WrongPlace("a user's namespace holds projects, no groups")
    check_visibility(parent, visibility)


def _check_nothing_wider(inside: Iterable[Namespace | Project], visibility: Visibility) -> None:
    wider = next((each for each in inside if each.visibility > visibility), None)
    if wider is not None:
        raise VisibilityTooWide(f"{wider.full_path!r} inside is more visible than {visibility.name.lower()}")
