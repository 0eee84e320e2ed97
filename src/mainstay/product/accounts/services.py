"""What happens to people and to what they sign in with. Each function is one transaction.

Not here: whether the actor may (`access.policy`, asked by the doors and by `lookup`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from mainstay.access.scopes import ADMIN_SCOPES, PERSONAL_SCOPES, UnknownScope, scopes_from
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import get_logger
from mainstay.product.accounts.events import user_created, user_renamed
from mainstay.product.accounts.keys import parse_public_key
from mainstay.product.accounts.models import PersonalAccessToken, SshKey, User
from mainstay.product.accounts.names import check_description, check_segment, check_text
from mainstay.product.accounts.passwords import check_password, hash_of
from mainstay.product.accounts.secrets import PERSONAL_PREFIX, digest_of, new_token
from mainstay.product.accounts.settings import DEFAULTS, AccountsSettings
from mainstay.product.accounts.writing import Taken, writing

log = get_logger()

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.-]{1,189}\Z")
_DESCRIPTION_MAX = 1000
_PROFILE = ("username", "username_lower", "name", "email", "email_lower", "bio", "is_admin")
"""Only these are written by a change of the profile: a password set meanwhile stays set."""


class BadEmail(Invalid):
    """Not an address of the form `somebody@somewhere`."""


class BadExpiry(Invalid):
    """The expiry is not in the future."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made: the only moment its text exists outside its owner's hands."""

    token: PersonalAccessToken
    plaintext: str


# People


def create_user(
    *,
    username: str,
    name: str = "",
    email: str = "",
    password: str | None = None,
    is_admin: bool = False,
    clock: Clock = SYSTEM,
    settings: AccountsSettings = DEFAULTS,
) -> User:
    """A new user with a namespace of the same name. Without a password they sign in by key or token.

    Raises `BadName`, `BadEmail`, `WeakPassword`, `Taken`.
    """
    check_segment(username, what="the user name", at_top=True)
    if password is not None:
        check_password(password, username=username, settings=settings)
    now_ms = clock.now_ms()
    user = User(
        username=username,
        username_lower=username.lower(),
        name=check_text(name or username, what="the name"),
        is_admin=is_admin,
        password_hash=hash_of(password, settings) if password is not None else "",
        password_changed_at_ms=now_ms,
        created_at_ms=now_ms,
    )
    _give_email(user, email)
    with writing(taken=f"the user name {username!r} or the e-mail address is taken"):
        user.save(force_insert=True)
        user_created.send(User, user=user)
    log.info("accounts.user_created", user_id=user.id, username=username, is_admin=is_admin)
    return user


def update_user(
    user: User,
    *,
    username: str | None = None,
    name: str | None = None,
    email: str | None = None,
    bio: str | None = None,
    is_admin: bool | None = None,
) -> User:
    """Change what is given. Raises as `create_user`."""
    renamed = username is not None and username != user.username
    if username is not None:
        user.username = check_segment(username, what="the user name", at_top=True)
        user.username_lower = username.lower()
    if name is not None:
        user.name = check_text(name, what="the name")
    if email is not None:
        _give_email(user, email)
    if bio is not None:
        user.bio = check_description(bio)[:255]
    if is_admin is not None:
        user.is_admin = is_admin
    with writing(taken="the user name or the e-mail address is taken"):
        user.save(update_fields=_PROFILE)
        if renamed:
            user_renamed.send(User, user=user)
    return user


def block(user: User) -> None:
    """From now on nothing of theirs opens any door: password, tokens, keys, sessions."""
    _set_state(user, User.State.BLOCKED)


def unblock(user: User) -> None:
    _set_state(user, User.State.ACTIVE)


def set_password(
    user: User, password: str, *, clock: Clock = SYSTEM, settings: AccountsSettings = DEFAULTS
) -> None:
    """Raises `WeakPassword`. What was remembered of the old password is worthless at once."""
    check_password(password, username=user.username, settings=settings)
    user.password_hash = hash_of(password, settings)
    user.password_changed_at_ms = clock.now_ms()
    with writing():
        user.save(update_fields=["password_hash", "password_changed_at_ms"])
    log.info("accounts.password_changed", user_id=user.id)


def delete_user(user: User) -> None:
    """Remove somebody who owns no projects. Raises `StillInUse`."""
    user_id, username = user.id, user.username
    with writing():
        user.delete()
    log.info("accounts.user_deleted", user_id=user_id, username=username)


# Personal access tokens


def create_token(
    user: User,
    *,
    name: str,
    scopes: Iterable[str],
    expires_on: date | None = None,
    description: str = "",
    clock: Clock = SYSTEM,
) -> NewToken:
    """A new token; it ends at the first moment (UTC) of `expires_on`. Raises `UnknownScope`, `BadExpiry`."""
    granted = scopes_from(scopes, allowed=PERSONAL_SCOPES)
    if granted & ADMIN_SCOPES and not user.is_admin:
        raise UnknownScope("the scopes sudo and admin_mode are for administrators")
    plaintext = new_token(PERSONAL_PREFIX)
    token = PersonalAccessToken(
        user=user,
        name=check_text(name, what="the name of the token"),
        description=check_description(description)[:_DESCRIPTION_MAX],
        digest=digest_of(plaintext),
        scopes=" ".join(sorted(granted)),
        created_at_ms=clock.now_ms(),
        expires_at_ms=expiry_of(expires_on, clock),
    )
    with writing():
        token.save(force_insert=True)
    log.info("accounts.token_created", user_id=user.id, token_id=token.id, scopes=token.scopes)
    return NewToken(token, plaintext)


def rotate_token(token: PersonalAccessToken, *, expires_on: date, clock: Clock = SYSTEM) -> NewToken:
    """Revoke `token` and make another with its name and scopes, in one transaction."""
    with writing():
        revoke_token(token, clock=clock)
        return create_token(
            token.user,
            name=token.name,
            scopes=token.scopes.split(),
            expires_on=expires_on,
            description=token.description,
            clock=clock,
        )


def revoke_token(token: PersonalAccessToken, *, clock: Clock = SYSTEM) -> None:
    """Revoking again is fine and keeps the first moment."""
    if token.revoked_at_ms is not None:
        return
    token.revoked_at_ms = clock.now_ms()
    with writing():
        token.save(update_fields=["revoked_at_ms"])
    log.info("accounts.token_revoked", user_id=token.user_id, token_id=token.id)


def expiry_of(expires_on: date | None, clock: Clock) -> int | None:
    """The first moment of that day in UTC. Raises `BadExpiry` when that is past."""
    if expires_on is None:
        return None
    midnight = datetime(expires_on.year, expires_on.month, expires_on.day, tzinfo=UTC)
    at_ms = int(midnight.timestamp() * 1000)
    if at_ms <= clock.now_ms():
        raise BadExpiry(f"the expiry {expires_on.isoformat()} is not in the future")
    return at_ms


# SSH keys


def add_ssh_key(
    user: User, public_key: str, *, title: str = "", expires_at_ms: int | None = None, clock: Clock = SYSTEM
) -> SshKey:
    """Raises `BadSshKey`, and `Taken` when the key is in use by anybody, a deploy key included."""
    return _store_key(public_key, title=title, user=user, expires_at_ms=expires_at_ms, clock=clock)


def add_deploy_key(public_key: str, *, title: str = "", clock: Clock = SYSTEM) -> SshKey:
    """A key of no person. `projects` says where it is valid."""
    return _store_key(public_key, title=title, user=None, expires_at_ms=None, clock=clock)


def remove_ssh_key(key: SshKey) -> None:
    """The key opens nothing from now on."""
    key_id, user_id = key.id, key.user_id
    with writing():
        key.delete()
    log.info("accounts.ssh_key_removed", key_id=key_id, user_id=user_id)


def _store_key(
    public_key: str, *, title: str, user: User | None, expires_at_ms: int | None, clock: Clock
) -> SshKey:
    parsed = parse_public_key(public_key)
    if expires_at_ms is not None and expires_at_ms <= clock.now_ms():
        raise BadExpiry("the expiry of the key is not in the future")
    key = SshKey(
        kind=SshKey.Kind.USER if user else SshKey.Kind.DEPLOY,
        user=user,
        title=check_text(title or parsed.comment or parsed.fingerprint, what="the title of the key"),
        public_key=parsed.line,
        fingerprint=parsed.fingerprint,
        created_at_ms=clock.now_ms(),
        expires_at_ms=expires_at_ms,
    )
    if SshKey.objects.filter(fingerprint=parsed.fingerprint).exists():
        raise Taken("the key has already been taken")
    with writing(taken="the key has already been taken"):
        key.save(force_insert=True)
    log.info("accounts.ssh_key_added", key_id=key.id, kind=key.kind, fingerprint=key.fingerprint)
    return key


def _set_state(user: User, state: User.State) -> None:
    user.state = state
    with writing():
        user.save(update_fields=["state"])
    log.info("accounts.user_state_set", user_id=user.id, state=str(state))


def _give_email(user: User, email: str) -> None:
    stripped = email.strip()
    if stripped and _EMAIL.match(stripped) is None:
        raise BadEmail(f"{stripped[:80]!r} is not an e-mail address")
    user.email = stripped
    user.email_lower = stripped.lower() or None
