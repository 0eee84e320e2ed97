"""What the ledger keeps of a project, so that `rebuild-db` can give a repository its project back.

The identity holds the project with its id and settings, the chain of namespaces above it from the top, each
with id, kind, names and owner, and the placement label, if there is one. Members, keys and tokens are not in
it: they are in backups of the database.

What is added to the format later must be optional: a version that does not know it leaves it out, and what
an older version wrote is read as if it had none.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.management.color import no_style
from django.db import connection

from mainstay.cluster import labels
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import Conflict, Invalid
from mainstay.product.accounts.models import User
from mainstay.product.accounts.writing import writing
from mainstay.product.projects.models import Namespace, PathClaim, Project
from mainstay.storage.database.django import DjangoDatabase

_FORMAT = 1
_PROJECT_FIELDS = (
    "id",
    "name",
    "path",
    "visibility",
    "description",
    "archived",
    "topics",
    "merge_method",
    "squash_option",
    "features",
    "created_at_ms",
)
_NAMESPACE_FIELDS = ("id", "kind", "name", "path", "visibility", "description", "created_at_ms")


class UnreadableIdentity(Invalid):
    """Not an identity that this version wrote."""


class AlreadyThere(Conflict):
    """Another project has this id or path."""


def identity_of(project: Project) -> dict[str, Any]:
    """The identity of `project` as of now."""
    chain = [_namespace_identity(each) for each in chain_of(project.namespace)]
    fields = {field: getattr(project, field) for field in _PROJECT_FIELDS}
    label = labels.label_of(DjangoDatabase(), project.repository_id)
    return {
        "format": _FORMAT,
        "full_path": project.full_path,
        "project": {**fields, "visibility": int(project.visibility), "creator": _person(project.creator)},
        "namespaces": chain,
        **({"placement": label} if label else {}),
    }


def chain_of(namespace: Namespace) -> Sequence[Namespace]:
    """The namespace and those above it, from the top."""
    chain = [namespace]
    while chain[0].parent is not None:
        chain.insert(0, chain[0].parent)
    return chain


def restore_identity(identity: Mapping[str, Any], repository_id: int, *, clock: Clock = SYSTEM) -> Project:
    """Make the project of a rebuilt repository again, with its id, its namespaces and their owners.

    People who are not there yet come back without a password or key: an administrator sets one. What is
    there already under the same path or user name is taken as it is. Raises `UnreadableIdentity`,
    `AlreadyThere`.
    """
    if identity.get("format") != _FORMAT:
        raise UnreadableIdentity(f"unknown format of identity: {identity.get('format')!r}")
    with writing(taken=f"cannot restore {identity['full_path']!r}: its id or path is in use"):
        namespace = None
        for each in identity["namespaces"]:
            namespace = _restored_namespace(each, namespace, clock)
        assert namespace is not None, "an identity names at least one namespace"
        project = _restored_project(identity, namespace, repository_id, clock)
        labels.place(DjangoDatabase(), repository_id, identity.get("placement", ""))
        _move_sequences()
    return project


def claim(thing: Namespace | Project) -> None:
    """Take the path for this namespace or project, and let go of the path it had."""
    owner = {"namespace": thing} if isinstance(thing, Namespace) else {"project": thing}
    PathClaim.objects.filter(**owner).delete()
    PathClaim(full_path_lower=thing.full_path_lower, **owner).save(force_insert=True)


def _namespace_identity(namespace: Namespace) -> dict[str, Any]:
    fields = {field: getattr(namespace, field) for field in _NAMESPACE_FIELDS}
    return {**fields, "visibility": int(namespace.visibility), "owner": _person(namespace.owner)}


def _person(user: User | None) -> dict[str, Any] | None:
    if user is None:
        return None
    return {"id": user.id, "username": user.username, "name": user.name, "is_admin": user.is_admin}


def _restored_namespace(fields: Mapping[str, Any], parent: Namespace | None, clock: Clock) -> Namespace:
    full_path = f"{parent.full_path}/{fields['path']}" if parent else fields["path"]
    existing = Namespace.objects.filter(full_path_lower=full_path.lower()).first()
    if existing is not None:
        return existing
    namespace = Namespace(
        **{field: fields[field] for field in _NAMESPACE_FIELDS},
        parent=parent,
        owner=_restored_person(fields["owner"], clock),
        full_path=full_path,
        full_path_lower=full_path.lower(),
    )
    if Namespace.objects.filter(id=namespace.id).exists():
        raise AlreadyThere(f"namespace id {namespace.id} is in use, so {full_path!r} cannot be restored")
    namespace.save(force_insert=True)
    claim(namespace)
    return namespace


def _restored_person(person: Mapping[str, Any] | None, clock: Clock) -> User | None:
    if person is None:
        return None
    existing = User.objects.filter(username_lower=person["username"].lower()).first()
    if existing is not None:
        return existing
    if User.objects.filter(id=person["id"]).exists():
        raise AlreadyThere(f"user id {person['id']} is in use, so {person['username']!r} cannot be restored")
    user = User(
        id=person["id"],
        username=person["username"],
        username_lower=person["username"].lower(),
        name=person["name"],
        is_admin=person["is_admin"],
        created_at_ms=clock.now_ms(),
    )
    user.save(force_insert=True)
    return user


def _restored_project(
    identity: Mapping[str, Any], namespace: Namespace, repository_id: int, clock: Clock
) -> Project:
    fields = identity["project"]
    there = Project.objects.filter(id=fields["id"], repository_id=repository_id).first()
    if there is not None:
        return there
    full_path = f"{namespace.full_path}/{fields['path']}"
    project = Project(
        **{field: fields[field] for field in _PROJECT_FIELDS},
        namespace=namespace,
        full_path=full_path,
        full_path_lower=full_path.lower(),
        repository_id=repository_id,
        creator=_restored_person(fields["creator"], clock),
        last_activity_at_ms=clock.now_ms(),
    )
    json.loads(project.topics)  # a damaged record is refused here, not by a page much later
    if Project.objects.filter(id=project.id).exists():
        raise AlreadyThere(f"project id {project.id} is in use, so {full_path!r} cannot be restored")
    project.save(force_insert=True)
    claim(project)
    return project


def _move_sequences() -> None:
    """Rows came with their ids; the next id that the database gives must be a new one (PostgreSQL)."""
    statements = connection.ops.sequence_reset_sql(no_style(), [User, Namespace, Project])
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
