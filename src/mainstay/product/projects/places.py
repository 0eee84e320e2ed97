"""What groups and projects have in common: paths, visibility, what is below, and the ledger beside them."""

from collections.abc import Iterable
from functools import lru_cache

from mainstay.access.actors import Actor
from mainstay.access.roles import Visibility
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Invalid
from mainstay.product.accounts.names import FULL_PATH_MAX, BadName, check_segment
from mainstay.product.projects.identity import identity_of
from mainstay.product.projects.models import Namespace, Project
from mainstay.storage.database.django import DjangoDatabase
from mainstay.storage.ledger import Ledger
from mainstay.storage.ledger.sql import SqlLedger

_DEPTH_MAX = 20


class VisibilityTooWide(Invalid):
    """What is inside a group may not be more visible than the group."""


class WrongPlace(Invalid):
    """The namespace cannot hold this."""


@lru_cache(maxsize=1)
def ledger() -> Ledger:
    """The ledger on the Django connection of the calling thread: it joins the transaction of a service."""
    return SqlLedger(DjangoDatabase(), SYSTEM)


def full_path_in(parent: Namespace | None, path: str, *, what: str) -> str:
    check_segment(path, what=what, at_top=parent is None)
    full_path = f"{parent.full_path}/{path}" if parent else path
    if len(full_path) > FULL_PATH_MAX or full_path.count("/") > _DEPTH_MAX:
        raise BadName(f"the path {full_path[:80]!r}… is too long or too deep")
    return full_path


def check_visibility(namespace: Namespace, visibility: Visibility) -> None:
    if namespace.kind == Namespace.Kind.GROUP and visibility > namespace.visibility:
        wide, narrow = visibility.name.lower(), Visibility(namespace.visibility).name.lower()
        raise VisibilityTooWide(f"{wide} is not allowed in the {narrow} group {namespace.full_path!r}")


def namespaces_below(namespace: Namespace) -> list[Namespace]:
    """The namespace and all in it."""
    below = Namespace.objects.filter(full_path_lower__startswith=f"{namespace.full_path_lower}/")
    return [namespace, *below.order_by("full_path_lower")]


def projects_below(namespace: Namespace) -> list[Project]:
    below = Project.objects.filter(full_path_lower__startswith=f"{namespace.full_path_lower}/")
    return list(below.select_related("namespace", "creator").order_by("id"))


def write_identities(projects: Iterable[Project], by: Actor) -> None:
    for project in projects:
        ledger().set_identity(project.repository_id, identity_of(project), actor=by.label)
