"""Who is in a group or project, and as what. Each function is one transaction."""

from mainstay.access.actors import Actor
from mainstay.access.roles import Role
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import Conflict, Invalid, NotFound
from mainstay.foundation.logs import get_logger
from mainstay.product.accounts.models import User
from mainstay.product.accounts.writing import writing
from mainstay.product.projects import locate
from mainstay.product.projects.models import Member, Namespace, Project
from mainstay.storage.database.django import DjangoDatabase

log = get_logger()

_MEMBER_ROLES = frozenset(Role) - {Role.NONE}

Place = Namespace | Project


class NoSuchMember(NotFound):
    def __init__(self) -> None:
        super().__init__("no such member")


class BadMembership(Invalid):
    """Not a role that a member can have, or not a place that has members."""


class LastOwner(Conflict):
    """A group without an owner could be managed by nobody."""


def add_member(
    place: Place,
    user: User,
    role: Role,
    *,
    by: Actor,
    expires_at_ms: int | None = None,
    clock: Clock = SYSTEM,
) -> Member:
    """Raises `Taken` for who is a member already, `NotPermitted` for a role above one's own."""
    _check_place(place)
    _check_role(place, role, by)
    _check_expiry(expires_at_ms, clock)
    member = Member(
        **_columns_of(place),
        user=user,
        access_level=role,
        expires_at_ms=expires_at_ms,
        created_by=User.objects.filter(id=by.id).first(),
        created_at_ms=clock.now_ms(),
    )
    with writing(taken="Member already exists"):
        member.save(force_insert=True)
    log.info("projects.member_added", place=str(place), user_id=user.id, role=role.name, by=by.label)
    return member


def set_member(
    place: Place,
    user: User,
    role: Role,
    *,
    by: Actor,
    expires_at_ms: int | None = None,
    clock: Clock = SYSTEM,
) -> Member:
    """Change role and expiry. Raises `NoSuchMember`, `NotPermitted`, `LastOwner`."""
    _check_role(place, role, by)
    _check_expiry(expires_at_ms, clock)
    with writing():
        member = member_of(place, user)
        _check_role(place, Role(member.access_level), by)
        if role < Role.OWNER or expires_at_ms is not None:
            _check_not_last_owner(place, member)
        member.access_level = role
        member.expires_at_ms = expires_at_ms
        member.save()
    log.info("projects.member_changed", place=str(place), user_id=user.id, role=role.name, by=by.label)
    return member


def remove_member(place: Place, user: User, *, by: Actor) -> None:
    """Raises `NoSuchMember`, `NotPermitted` for somebody above oneself, `LastOwner`."""
    with writing():
        member = member_of(place, user)
        if user.id != by.id:
            _check_role(place, Role(member.access_level), by)
        _check_not_last_owner(place, member)
        member.delete()
    log.info("projects.member_removed", place=str(place), user_id=user.id, by=by.label)


def member_of(place: Place, user: User) -> Member:
    """The membership in the place itself. Raises `NoSuchMember`."""
    member = (
        Member.objects.filter(**_columns_of(place), user=user).select_related("user", "created_by").first()
    )
    if member is None:
        raise NoSuchMember
    return member


def _columns_of(place: Place) -> dict[str, Place]:
    return {"namespace": place} if isinstance(place, Namespace) else {"project": place}


def _check_place(place: Place) -> None:
    if isinstance(place, Namespace) and place.kind != Namespace.Kind.GROUP:
        raise BadMembership("a user's namespace has no members; add them to its projects")


def _check_role(place: Place, role: Role, by: Actor) -> None:
    """Nobody gives, changes or takes more than they have."""
    if role not in _MEMBER_ROLES:
        raise BadMembership(f"{role.name.lower()} is not a role of members")
    if role > _role_of(place, by):
        raise locate.NotPermitted(f"you may not decide about the role {role.name.lower()} here")


def _role_of(place: Place, by: Actor) -> Role:
    database = DjangoDatabase()
    if isinstance(place, Project):
        facts = locate.facts_of(database, by, place.full_path)
        return Role.NONE if facts is None else facts.role
    standing = locate.group_standing(database, by, place.full_path)
    return Role.NONE if standing is None else standing.role


def _check_expiry(expires_at_ms: int | None, clock: Clock) -> None:
    if expires_at_ms is not None and expires_at_ms <= clock.now_ms():
        raise BadMembership("the expiry is not in the future")


def _check_not_last_owner(place: Place, member: Member) -> None:
    if not isinstance(place, Namespace) or member.access_level < Role.OWNER:
        return
    # Locked in the order of ids, so that two owners who remove each other at once do not both succeed.
    owners = (
        Member.objects.select_for_update().filter(namespace=place, access_level=Role.OWNER).order_by("id")
    )
    others = [each for each in owners if each.id != member.id and each.expires_at_ms is None]
    if not others:
        raise LastOwner("the last owner of a group can neither leave nor be anything less")
