"""Namespaces: where projects can be, of users and groups alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.access.roles import Role
from mainstay.doors.api.endpoint import Endpoint
from mainstay.doors.api.errors import NoSuchThing
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes import places as shapes
from mainstay.product.projects.lookup import (
    Namespace,
    NoSuchGroup,
    groups_with_role,
    namespace_for,
    namespaces_visible_to,
)

_SUGGESTIONS_MAX = 100


class NamespaceEndpoint(Endpoint):
    def shape(self, namespace: Namespace) -> dict[str, Any]:
        return shapes.namespace_full(namespace, self.addresses)


class Namespaces(NamespaceEndpoint):
    """One's own and those of one's groups; for administrators all."""

    def get(self, _request: Request) -> Response:
        found = namespaces_visible_to(self.actor, clock=self.kit.clock)
        owned_only = self.parameters.flag("owned_only")
        if owned_only or not self.actor.is_admin:
            groups = groups_with_role(
                self.actor, Role.OWNER if owned_only else Role.GUEST, clock=self.kit.clock
            )
            found = found.filter(Q(owner_id=self.actor.id) | Q(id__in=groups.order_by().values("id")))
        search = self.parameters.search()
        if search:
            found = found.filter(Q(name__icontains=search) | Q(full_path__icontains=search))
        if self.parameters.flag("top_level_only"):
            found = found.filter(parent__isnull=True)
        return self.page(found, self.shape)


class OneNamespace(NamespaceEndpoint):
    def get(self, _request: Request, namespace: Reference) -> Response:
        with _called_namespace():
            found = namespace_for(self.actor, namespace.key, Action.READ_GROUP, clock=self.kit.clock)
        return Response(self.shape(found))


class NamespaceExists(NamespaceEndpoint):
    """Whether a path is in use, as far as the actor may know, and what else could be used."""

    def get(self, _request: Request, namespace: str) -> Response:
        parent_id = self.parameters.maybe_integer("parent_id")
        visible = namespaces_visible_to(self.actor, clock=self.kit.clock).filter(parent_id=parent_id)
        wanted = namespace.lower()
        taken = set(
            visible.filter(path__istartswith=namespace).values_list("path", flat=True)[:_SUGGESTIONS_MAX]
        )
        in_use = {path.lower() for path in taken}
        exists = wanted in in_use
        numbered = (f"{namespace}{number}" for number in range(1, _SUGGESTIONS_MAX + 2))
        suggests = [next(each for each in numbered if each.lower() not in in_use)] if exists else []
        return Response({"exists": exists, "suggests": suggests})


@contextmanager
def _called_namespace() -> Iterator[None]:
    try:
        yield
    except NoSuchGroup as error:
        raise NoSuchThing("Namespace") from error
