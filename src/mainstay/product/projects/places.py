"""What groups and projects have in common: paths, visibility, what is below, and the ledger beside them."""

from collections.abc import Iterable
from functools import lru_cache

from mainstay.access.actors import Actor
from mainstay.access.roles import Visibility
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Invalid
from mainstay.product.accounts.names import FULL_PATH_MAX, BadName, check_segment
from mainstay.product.accounts.writing import Taken
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


def locked(namespace: Namespace) -> Namespace:
    """The namespace as it is now; its path stays so until the transaction ends.

    Whoever puts something into a namespace locks it first, else a rename at the same moment would leave
    the new thing under the old path.
    """
    fresh = Namespace.objects.select_for_update().filter(id=namespace.id).first()
    if fresh is None:
        raise WrongPlace(f"{namespace.full_path!r} was deleted a moment ago")
    return fresh


def namespaces_below(namespace: Namespace) -> list[Namespace]:
    """The namespace and all in it, from the top, locked until the transaction ends."""
    seen: list[Namespace] = [locked(namespace)]
    for _ in range(_DEPTH_MAX):
        prefix = f"{seen[0].full_path_lower}/"
        inside = Namespace.objects.select_for_update().filter(full_path_lower__startswith=prefix)
        found = [seen[0], *inside.order_by("full_path_lower")]
        # Something made while we waited for a lock is seen only by asking again.
        if {each.id for each in found} == {each.id for each in seen}:
            return found
        seen = found
    raise Taken(f"{namespace.full_path!r} keeps changing")


def projects_below(namespace: Namespace) -> list[Project]:
    """All projects in the namespace and in what is in it, locked until the transaction ends."""
    inside = Project.objects.select_for_update(of=("self",)).filter(
        full_path_lower__startswith=f"{namespace.full_path_lower}/"
    )
    return list(inside.select_related("namespace", "creator").order_by("id"))


def write_identities(projects: Iterable[Project], by: Actor) -> None:
    """Tell the ledger what the projects are now."""
    for project in projects:
        ledger().set_identity(project.repository_id, identity_of(project), actor=by.label)
