"""What happens to projects. Each function is one transaction, with the ledger in it.

Not here: whether the actor may (`access.policy`, asked by `lookup` and `locate`), groups (`groups`), members
(`membership`), protected refs (`protection`), keys and tokens of machines (`machines`).
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from mainstay.access.actors import Actor
from mainstay.access.policy import HIDDEN_PREFIXES, GitAction
from mainstay.access.roles import Visibility
from mainstay.cluster import labels
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import Invalid
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import get_logger
from mainstay.git.objectnames import RefName
from mainstay.product.accounts.models import User
from mainstay.product.accounts.names import check_description, check_segment, check_text
from mainstay.product.accounts.writing import Taken, writing
from mainstay.product.projects import locate
from mainstay.product.projects.identity import claim, identity_of
from mainstay.product.projects.locate import ProjectFacts
from mainstay.product.projects.models import Namespace, Project
from mainstay.product.projects.places import (
    VisibilityTooWide,
    check_visibility,
    full_path_in,
    ledger,
    locked,
    write_identities,
)
from mainstay.storage.database.django import DjangoDatabase
from mainstay.storage.ledger import Repository

log = get_logger()

_DEFAULT_HEAD = RefName(b"refs/heads/main")
_PROJECT_SETTINGS = frozenset(
    {
        "topics",
        "merge_method",
        "squash_option",
        "only_allow_merge_if_pipeline_succeeds",
        "remove_source_branch_after_merge",
        "lfs_enabled",
        "shared_runners_enabled",
        "ci_config_path",
        "features",
    }
)


def create_project(
    namespace: Namespace,
    *,
    path: str,
    by: Actor,
    name: str = "",
    visibility: Visibility = Visibility.PRIVATE,
    description: str = "",
    creator: User | None = None,
    head: RefName = _DEFAULT_HEAD,
    settings: Mapping[str, Any] | None = None,
    clock: Clock = SYSTEM,
) -> Project:
    """A project with an empty repository. Raises `BadName`, `Taken`, `VisibilityTooWide`."""
    project = _new_project(namespace, path, name, visibility, clock)
    project.description = check_description(description)
    project.creator = creator
    for field, value in _known_settings(settings or {}).items():
        setattr(project, field, value)

    def empty(identity: Mapping[str, Any]) -> Repository:
        return ledger().create_repository(uid=new_ulid(), head=head, identity=identity, actor=by.label)

    return _save_new(project, empty, by)


def fork_project(
    source: Project,
    namespace: Namespace,
    *,
    by: Actor,
    path: str = "",
    name: str = "",
    visibility: Visibility | None = None,
    creator: User | None = None,
    clock: Clock = SYSTEM,
) -> Project:
    """A project with the branches and tags of `source` at this moment; no bytes are copied."""
    chosen = Visibility(source.visibility if visibility is None else visibility)
    if chosen > source.visibility:
        raise VisibilityTooWide("a fork may not be more visible than its source")
    project = _new_project(namespace, path or source.path, name or source.name, chosen, clock)
    project.description = source.description
    project.creator = creator
    project.forked_from = source

    def forked(identity: Mapping[str, Any]) -> Repository:
        return ledger().fork(
            source.repository_id, uid=new_ulid(), identity=identity, actor=by.label, hide=HIDDEN_PREFIXES
        )

    return _save_new(project, forked, by)


def create_on_push(actor: Actor, path: str, *, clock: Clock = SYSTEM) -> ProjectFacts:
    """A private project at `path` for a first push. Raises as `locate.check_may_create`.

    When somebody else made it at the same moment, that one is taken, if the actor may push to it.
    """
    database = DjangoDatabase()
    locate.check_may_create(database, actor, path, clock=clock)
    parent, _, name = locate.path_of(path).rpartition("/")
    namespace = Namespace.objects.filter(full_path_lower=parent.lower()).first()
    if namespace is None:
        raise locate.NoSuchProject(path)
    try:
        create_project(
            namespace, path=name, by=actor, creator=User.objects.filter(id=actor.id).first(), clock=clock
        )
    except Taken:
        log.info("projects.creation_lost_the_race", path=path, by=actor.label)
    return locate.project_for(database, actor, path, GitAction.PUSH, clock=clock)


def set_project(
    project: Project,
    *,
    by: Actor,
    name: str | None = None,
    description: str | None = None,
    visibility: Visibility | None = None,
    archived: bool | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Project:
    """Change what is given; `settings` are columns such as `merge_method`."""
    changed = _known_settings(settings or {})
    if name is not None:
        changed["name"] = check_text(name, what="the project name")
    if description is not None:
        changed["description"] = check_description(description)
    if archived is not None:
        changed["archived"] = archived
    with writing():
        namespace = locked(project.namespace)
        if visibility is not None:
            check_visibility(namespace, visibility)
            changed["visibility"] = visibility
        for field, value in changed.items():
            setattr(project, field, value)
        project.save(update_fields=sorted(changed))
        project.refresh_from_db()
        write_identities([project], by)
    return project


def rename_project(project: Project, path: str, *, by: Actor) -> Project:
    """Give the project another path in its namespace."""
    return _move_project(project, project.namespace, path, by)


def transfer_project(project: Project, namespace: Namespace, *, by: Actor) -> Project:
    """Put the project into another namespace. Raises `Taken`, `VisibilityTooWide`."""
    return _move_project(project, namespace, project.path, by)


def set_default_branch(project: Project, branch: RefName, *, by: Actor) -> None:
    """Point HEAD at the full ref name `branch`."""
    ledger().set_head(project.repository_id, branch, actor=by.label)


def place_project(project: Project, label: str, *, by: Actor) -> None:
    """Let the nodes with `label` serve the project (`cluster.labels`). Raises `BadLabel`."""
    with writing():
        locked(project.namespace)
        now = Project.objects.select_for_update().get(id=project.id)
        labels.place(DjangoDatabase(), now.repository_id, label)
        write_identities([now], by)


def delete_project(project: Project, *, by: Actor) -> None:
    """The project is gone at once; its packs stay in the store for the restore window."""
    project_id, path = project.id, project.full_path
    with writing():
        ledger().set_write_state(project.repository_id, "deleted", actor=by.label)
        project.delete()
    log.info("projects.project_deleted", project_id=project_id, path=path, by=by.label)


def _new_project(namespace: Namespace, path: str, name: str, visibility: Visibility, clock: Clock) -> Project:
    check_segment(path, what="the project path", at_top=False)
    return Project(
        namespace=namespace,
        name=check_text(name or path, what="the project name"),
        path=path,
        visibility=visibility,
        # The identity in the repository's first change names the project's id, so the row comes first.
        # Until the repository has an id, a number that no repository has keeps the place.
        repository_id=-1 - secrets.randbits(62),
        created_at_ms=clock.now_ms(),
        last_activity_at_ms=clock.now_ms(),
    )


def _save_new(
    project: Project, make_repository: Callable[[Mapping[str, Any]], Repository], by: Actor
) -> Project:
    with writing(taken=f"the path {project.path!r} is taken in {project.namespace.full_path!r}"):
        _place(project, locked(project.namespace))
        project.save(force_insert=True)
        claim(project)
        project.repository_id = make_repository(identity_of(project)).id
        project.save(update_fields=["repository_id"])
    log.info("projects.project_created", project_id=project.id, path=project.full_path, by=by.label)
    return project


def _move_project(project: Project, namespace: Namespace, path: str, by: Actor) -> Project:
    with writing(taken=f"the path {path!r} is taken in {namespace.full_path!r}"):
        target = locked(namespace)
        moving = Project.objects.select_for_update().get(id=project.id)
        before = moving.full_path
        moving.path = path
        _place(moving, target)
        moving.save(update_fields=["namespace", "path", "full_path", "full_path_lower"])
        claim(moving)
        write_identities([moving], by)
    project.refresh_from_db()
    log.info(
        "projects.project_moved", project_id=project.id, before=before, after=project.full_path, by=by.label
    )
    return project


def _place(project: Project, namespace: Namespace) -> None:
    """Put the project into the namespace, which must be locked."""
    check_visibility(namespace, Visibility(project.visibility))
    project.namespace = namespace
    project.full_path = full_path_in(namespace, project.path, what="the project path")
    project.full_path_lower = project.full_path.lower()


def _known_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(settings) - _PROJECT_SETTINGS)
    if unknown:
        raise Invalid(f"no such project setting: {unknown[0]!r}")
    return dict(settings)
