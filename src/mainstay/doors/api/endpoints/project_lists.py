"""Narrowing and ordering lists of projects: the parameters that all of them share."""

import json
from typing import Any

from django.db.models import Q

from mainstay.access.actors import Actor
from mainstay.access.roles import Role, Visibility
from mainstay.doors.api.parameters import Parameters, WrongParameter
from mainstay.foundation.clock import Clock
from mainstay.product.projects.lookup import projects_with_role

VISIBILITIES = tuple(level.name.lower() for level in Visibility)
_COLUMNS = {
    "id": "id",
    "name": "name",
    "path": "path",
    "created_at": "created_at_ms",
    "updated_at": "last_activity_at_ms",
    "last_activity_at": "last_activity_at_ms",
    "similarity": "name",
    "star_count": "id",
}


def visibility_in(parameters: Parameters) -> Visibility | None:
    chosen = parameters.maybe_choice("visibility", VISIBILITIES)
    return None if chosen is None else Visibility[chosen.upper()]


def role_in(parameters: Parameters, name: str) -> Role | None:
    """An access level as the role it is."""
    level = parameters.maybe_integer(name)
    if level is None:
        return None
    try:
        return Role(level)
    except ValueError as error:
        raise WrongParameter(f"{name} does not have a valid value") from error


def narrowed(projects: Any, parameters: Parameters, actor: Actor, clock: Clock) -> Any:
    """Those of `projects` that the parameters ask for."""
    projects = _by_role(projects, parameters, actor, clock)
    visibility = visibility_in(parameters)
    if visibility is not None:
        projects = projects.filter(visibility=visibility)
    archived = parameters.maybe_boolean("archived")
    if archived is not None:
        projects = projects.filter(archived=archived)
    if parameters.flag("starred"):
        projects = projects.none()
    for topic in parameters.texts("topic") or ():
        projects = projects.filter(topics__contains=json.dumps(topic))
    return _by_time_and_id(_by_words(projects, parameters), parameters)


def ordered(projects: Any, parameters: Parameters) -> Any:
    column = _COLUMNS[parameters.maybe_choice("order_by", _COLUMNS) or "created_at"]
    descending = (parameters.maybe_choice("sort", ("asc", "desc")) or "desc") == "desc"
    sign = "-" if descending else ""
    return projects.order_by(sign + column, sign + "id")


def _by_role(projects: Any, parameters: Parameters, actor: Actor, clock: Clock) -> Any:
    least = role_in(parameters, "min_access_level")
    if parameters.flag("owned"):
        least = Role.OWNER
    elif least is None and parameters.flag("membership"):
        least = Role.GUEST
    if least is None:
        return projects
    theirs = projects_with_role(actor, least, clock=clock)
    return projects.filter(id__in=theirs.order_by().values("id"))


def _by_words(projects: Any, parameters: Parameters) -> Any:
    search = parameters.search()
    if not search:
        return projects
    wanted = Q(name__icontains=search) | Q(path__icontains=search)
    if parameters.flag("search_namespaces"):
        wanted |= Q(full_path__icontains=search)
    return projects.filter(wanted)


def _by_time_and_id(projects: Any, parameters: Parameters) -> Any:
    bounds = {
        "last_activity_at_ms__gt": parameters.maybe_moment_ms("last_activity_after"),
        "last_activity_at_ms__lt": parameters.maybe_moment_ms("last_activity_before"),
        "id__gt": parameters.maybe_integer("id_after"),
        "id__lt": parameters.maybe_integer("id_before"),
    }
    return projects.filter(**{name: bound for name, bound in bounds.items() if bound is not None})
