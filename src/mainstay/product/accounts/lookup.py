"""Finding people and credentials for the API, checked: what the actor may not see is not found.

The models are named here too, because their instances are what these functions return.
"""

from django.db.models import Q, QuerySet

from mainstay.access.actions import Action
from mainstay.access.actors import Actor, Kind
from mainstay.access.policy import Deny, decide_on_instance
from mainstay.foundation.errors import NotAllowed, NotFound
from mainstay.product.accounts.models import DeployToken, PersonalAccessToken, SshKey, User

__all__ = [
    "DeployToken",
    "NoSuchKey",
    "NoSuchToken",
    "NoSuchUser",
    "NotPermitted",
    "PersonalAccessToken",
    "SshKey",
    "User",
    "actor_of",
    "current_token",
    "key_by_fingerprint",
    "require",
    "ssh_key_for",
    "ssh_keys_for",
    "token_for",
    "tokens_for",
    "user_for",
    "user_named",
    "user_of",
    "user_to_act_as",
    "users_for",
]


class NoSuchUser(NotFound):
    def __init__(self) -> None:
        super().__init__("no such user")


class NoSuchKey(NotFound):
    def __init__(self) -> None:
        super().__init__("no such key")


class NoSuchToken(NotFound):
    def __init__(self) -> None:
        super().__init__("no such token")


class NotPermitted(NotAllowed):
    """The message is the policy's reason."""


def require(action: Action, actor: Actor) -> None:
    """Raise `NotPermitted` unless the actor may do this to the instance or to their own account."""
    decision = decide_on_instance(action, actor)
    if isinstance(decision, Deny):
        raise NotPermitted(decision.because)


def user_of(actor: Actor) -> User:
    """The user behind the actor. Raises `NotPermitted` for keys and tokens of no person."""
    if actor.kind is not Kind.USER:
        raise NotPermitted("sign in first")
    return _first(User.objects.filter(id=actor.id))


def actor_of(user: User) -> Actor:
    """The user as an actor without narrowing: for sessions, for `sudo`, for the command line."""
    if user.state != User.State.ACTIVE:
        raise NotPermitted("the user is blocked")
    return Actor(kind=Kind.USER, id=user.id, name=user.username, is_admin=user.is_admin)


def user_to_act_as(actor: Actor, id_or_name: int | str) -> Actor:
    """Somebody else, for an administrator with the scope `sudo`."""
    require(Action.IMPERSONATE, actor)
    return actor_of(user_for(actor, id_or_name))


def user_named(username: str) -> User:
    """Unchecked, for the command line and for sign-in. Raises `NoSuchUser`."""
    return _first(User.objects.filter(username_lower=username.lower()))


def user_for(actor: Actor, id_or_name: int | str) -> User:
    """A user by id or name. The blocked are seen by administrators and themselves only."""
    wanted = Q(id=id_or_name) if isinstance(id_or_name, int) else Q(username_lower=id_or_name.lower())
    return _first(users_for(actor).filter(wanted))


def users_for(actor: Actor, *, search: str = "") -> QuerySet[User]:
    """All users that the actor may list, by id."""
    require(Action.READ_USERS, actor)
    users = User.objects.order_by("id")
    if not _sees_all(actor):
        users = users.filter(Q(state=User.State.ACTIVE) | Q(id=actor.id))
    if search:
        wanted = Q(username_lower__contains=search.lower()) | Q(name__icontains=search)
        users = users.filter(wanted | Q(email_lower=search.lower()))
    return users


def ssh_keys_for(actor: Actor, user: User) -> QuerySet[SshKey]:
    """A user's keys. Public keys are public: everybody signed in may see them."""
    require(Action.READ_USERS, actor)
    return SshKey.objects.filter(user=user).order_by("id")


def ssh_key_for(actor: Actor, key_id: int, *, owner: User | None = None) -> SshKey:
    """One's own key, or (for administrators) anybody's. `owner` asks that it be theirs."""
    keys = SshKey.objects.filter(id=key_id, kind=SshKey.Kind.USER)
    if owner is not None:
        keys = keys.filter(user=owner)
    key = keys.first()
    if key is None or not (_sees_all(actor) or (actor.kind is Kind.USER and key.user_id == actor.id)):
        raise NoSuchKey
    return key


def key_by_fingerprint(actor: Actor, fingerprint: str) -> SshKey:
    """Whose key is this, for administrators: a user's or a deploy key, by `SHA256:…`. Raises `NoSuchKey`."""
    require(Action.ADMIN, actor)
    wanted = "SHA256:" + fingerprint.removeprefix("SHA256:").rstrip("=")
    key = SshKey.objects.select_related("user").filter(fingerprint=wanted).first()
    if key is None:
        raise NoSuchKey
    return key


def tokens_for(actor: Actor, *, user: User | None = None) -> QuerySet[PersonalAccessToken]:
    """One's own tokens; for administrators everybody's, or those of `user`."""
    require(Action.READ_SELF, actor)
    tokens = PersonalAccessToken.objects.select_related("user").order_by("id")
    if not _sees_all(actor):
        tokens = tokens.filter(user_id=actor.id)
    return tokens if user is None else tokens.filter(user=user)


def token_for(actor: Actor, token_id: int) -> PersonalAccessToken:
    token = tokens_for(actor).filter(id=token_id).first()
    if token is None:
        raise NoSuchToken
    return token


def current_token(actor: Actor) -> PersonalAccessToken:
    """The token that the actor came with. Raises `NoSuchToken` when they came with something else."""
    token = None
    if actor.kind is Kind.USER and actor.scopes is not None:
        token = PersonalAccessToken.objects.select_related("user").filter(id=actor.token_id or 0).first()
    if token is None:
        raise NoSuchToken
    return token


def _sees_all(actor: Actor) -> bool:
    return actor.is_admin or actor.kind is Kind.SYSTEM


def _first(users: QuerySet[User]) -> User:
    user = users.first()
    if user is None:
        raise NoSuchUser
    return user
