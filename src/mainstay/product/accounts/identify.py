"""Who is at the door? The gate of both Git doors and of the API: plain SQL, no ORM, one query.

A password, a personal access token or a deploy token may come as the password of HTTP Basic, whatever the
user name, as GitLab's clients expect. Whatever is wrong with it (no such user, blocked, wrong, expired,
revoked), the answer is the same `WrongCredentials`, and takes as long.
"""

from collections.abc import Sequence
from typing import Any

from mainstay.access.actors import Actor, Kind
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import NotAllowed, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.product.accounts.limits import TooManyAttempts, count_failure, counted_as, refuse_banned
from mainstay.product.accounts.passwords import hash_of, needs_rehash, passwords_of
from mainstay.product.accounts.secrets import DEPLOY_PREFIX, PERSONAL_PREFIX, digest_of
from mainstay.product.accounts.settings import DEFAULTS, AccountsSettings
from mainstay.storage.database import Database
from mainstay.storage.database.fence import SiteFenced

__all__ = [
    "TooManyAttempts",
    "WrongCredentials",
    "by_digest",
    "by_password",
    "by_password_mark",
    "by_password_or_token",
    "by_ssh_key",
    "by_token",
    "is_token",
    "note_ssh_key_used",
    "password_mark",
    "public_key_line",
]

log = get_logger()

_SECRET_MAX = 1024
_NAME_MAX = 255
_LAST_USED_EVERY_MS = 60_000

_SELECT_PERSONAL = """
SELECT f.banned_until_ms, t.id, t.scopes, t.expires_at_ms, t.revoked_at_ms, t.last_used_at_ms,
       u.id, u.username, u.is_admin, u.state
FROM (SELECT 1 AS one) AS always
LEFT JOIN accounts_failedsignin f ON f.address = ?
LEFT JOIN accounts_personalaccesstoken t ON t.digest = ?
LEFT JOIN accounts_user u ON u.id = t.user_id
"""
_SELECT_DEPLOY = """
SELECT f.banned_until_ms, t.id, t.scopes, t.expires_at_ms, t.revoked_at_ms, t.last_used_at_ms, t.name
FROM (SELECT 1 AS one) AS always
LEFT JOIN accounts_failedsignin f ON f.address = ?
LEFT JOIN accounts_deploytoken t ON t.digest = ?
"""
_SELECT_USER = """
SELECT f.banned_until_ms, u.id, u.username, u.is_admin, u.state, u.password_hash
FROM (SELECT 1 AS one) AS always
LEFT JOIN accounts_failedsignin f ON f.address = ?
LEFT JOIN accounts_user u ON u.{column} = ?
"""
_SELECT_KEY = """
SELECT k.id, k.kind, k.title, k.expires_at_ms, u.id, u.username, u.is_admin, u.state
FROM accounts_sshkey k LEFT JOIN accounts_user u ON u.id = k.user_id
WHERE k.fingerprint = ?
"""


class WrongCredentials(NotAllowed):
    """Nobody active has these credentials."""

    def __init__(self) -> None:
        super().__init__("the user name, password or token is wrong, expired or revoked")


def is_token(secret: str) -> bool:
    """Whether this can only be a token: no password may look like one."""
    return secret.startswith((PERSONAL_PREFIX, DEPLOY_PREFIX))


def by_password_or_token(
    database: Database,
    username: str,
    secret: str,
    *,
    address: str,
    clock: Clock,
    settings: AccountsSettings = DEFAULTS,
) -> Actor:
    """Identify by HTTP Basic. Raises `WrongCredentials`, `TooManyAttempts`, `Unavailable`."""
    if is_token(secret):
        return by_token(database, secret, address=address, clock=clock, settings=settings)
    return by_password(database, username, secret, address=address, clock=clock, settings=settings)


def by_token(
    database: Database,
    token: str,
    *,
    address: str,
    clock: Clock,
    settings: AccountsSettings = DEFAULTS,
) -> Actor:
    """Identify by a token alone. Raises `WrongCredentials`, `TooManyAttempts`, `Unavailable`."""
    key = counted_as(address, settings)
    is_deploy = token.startswith(DEPLOY_PREFIX)
    statement = _SELECT_DEPLOY if is_deploy else _SELECT_PERSONAL
    row = _look_up(database, statement, key, digest_of(token[:_SECRET_MAX]), clock)
    actor = _deploy_token_actor(row, clock) if is_deploy else _personal_token_actor(row, clock)
    if actor is None:
        raise _failure(database, key, clock, settings)
    _note_used(database, "deploytoken" if is_deploy else "personalaccesstoken", row[1], row[5], clock)
    return actor


def by_password(
    database: Database,
    username: str,
    password: str,
    *,
    address: str,
    clock: Clock,
    settings: AccountsSettings = DEFAULTS,
) -> Actor:
    """Identify by user name or e-mail and password. Raises as `by_password_or_token`."""
    key = counted_as(address, settings)
    # A user name cannot have an '@', so there is no name that is somebody else's address.
    column = "email_lower" if "@" in username else "username_lower"
    statement = _SELECT_USER.format(column=column)
    row = _look_up(database, statement, key, _plausible(username), clock)
    _, user_id, name, is_admin, state, password_hash = row
    fits = passwords_of(settings).fits(password, password_hash or "")
    if not fits or state != "active":
        raise _failure(database, key, clock, settings)
    _rehash(database, user_id, password, password_hash, settings)
    return Actor(kind=Kind.USER, id=user_id, name=name, is_admin=bool(is_admin))


def by_ssh_key(database: Database, fingerprint: str, *, clock: Clock) -> Actor | None:
    """Whose key is this? None when nobody's, or of somebody blocked, or expired. Writes nothing.

    Clients offer keys before they prove to have them: call `note_ssh_key_used` after the proof.
    """
    with database.read() as transaction:
        row = transaction.row(_SELECT_KEY, (fingerprint,))
    if row is None:
        return None
    key_id, kind, title, expires_at_ms, user_id, username, is_admin, state = row
    if expires_at_ms is not None and expires_at_ms <= clock.now_ms():
        return None
    if kind == "deploy":
        return Actor(kind=Kind.DEPLOY_KEY, id=key_id, name=title, token_id=key_id)
    if state != "active":
        return None
    return Actor(kind=Kind.USER, id=user_id, name=username, is_admin=bool(is_admin), token_id=key_id)


def by_digest(database: Database, digest: str, *, is_deploy: bool, clock: Clock) -> Actor | None:
    """Whose token has this digest, if it still works. Counts nothing and writes nothing: for who has seen
    the token itself before and asks again.
    """
    with database.read() as transaction:
        row = transaction.row(_SELECT_DEPLOY if is_deploy else _SELECT_PERSONAL, ("", digest))
    assert row is not None, "the first table always has one row"
    return _deploy_token_actor(row, clock) if is_deploy else _personal_token_actor(row, clock)


def password_mark(database: Database, user_id: int) -> str:
    """Changes whenever the password of the user does."""
    with database.read() as transaction:
        row = transaction.row("SELECT password_hash FROM accounts_user WHERE id = ?", (user_id,))
    return "" if row is None else digest_of(str(row[0]))


def by_password_mark(database: Database, user_id: int, mark: str) -> Actor | None:
    """The user, if active and still of the password that had this mark."""
    with database.read() as transaction:
        row = transaction.row(
            "SELECT username, is_admin, state, password_hash FROM accounts_user WHERE id = ?", (user_id,)
        )
    if row is None or row[2] != "active" or digest_of(str(row[3])) != mark:
        return None
    return Actor(kind=Kind.USER, id=user_id, name=row[0], is_admin=bool(row[1]))


def public_key_line(database: Database, fingerprint: str) -> str | None:
    """The key itself, as `type base64`; for OpenSSH's `AuthorizedKeysCommand`."""
    with database.read() as transaction:
        row = transaction.row("SELECT public_key FROM accounts_sshkey WHERE fingerprint = ?", (fingerprint,))
    return None if row is None else str(row[0])


def note_ssh_key_used(database: Database, key_id: int, *, clock: Clock) -> None:
    """Remember that somebody signed in with this key, to the minute."""
    _note_used(database, "sshkey", key_id, None, clock)


def _plausible(username: str) -> str:
    """The name in lower case, or for what nobody can be called "", which nobody is called either."""
    lowered = username.lower()
    return lowered if len(lowered) <= _NAME_MAX and lowered.isprintable() else ""


def _look_up(database: Database, statement: str, key: str | None, wanted: str, clock: Clock) -> Sequence[Any]:
    with database.read() as transaction:
        row = transaction.row(statement, (key or "", wanted))
    assert row is not None, "the first table always has one row"
    refuse_banned(row[0], clock)
    return row


def _personal_token_actor(row: Sequence[Any], clock: Clock) -> Actor | None:
    _, token_id, scopes, expires_at_ms, revoked_at_ms, _, user_id, username, is_admin, state = row
    if state != "active" or not _is_live(token_id, expires_at_ms, revoked_at_ms, clock):
        return None
    return Actor(
        kind=Kind.USER,
        id=user_id,
        name=username,
        is_admin=bool(is_admin),
        scopes=frozenset(scopes.split()),
        token_id=token_id,
    )


def _deploy_token_actor(row: Sequence[Any], clock: Clock) -> Actor | None:
    _, token_id, scopes, expires_at_ms, revoked_at_ms, _, name = row
    if not _is_live(token_id, expires_at_ms, revoked_at_ms, clock):
        return None
    return Actor(
        kind=Kind.DEPLOY_TOKEN, id=token_id, name=name, scopes=frozenset(scopes.split()), token_id=token_id
    )


def _is_live(
    token_id: int | None, expires_at_ms: int | None, revoked_at_ms: int | None, clock: Clock
) -> bool:
    if token_id is None or revoked_at_ms is not None:
        return False
    return expires_at_ms is None or expires_at_ms > clock.now_ms()


def _failure(
    database: Database, key: str | None, clock: Clock, settings: AccountsSettings
) -> WrongCredentials:
    if key is not None:
        try:
            count_failure(database, key, clock, settings)
        except SiteFenced as fenced:
            # A replica cannot count; while its primary is there, that is where people are identified.
            log.warning("accounts.failure_not_counted", address=key, reason=str(fenced))
    return WrongCredentials()


def _note_used(database: Database, table: str, row_id: int, last_ms: int | None, clock: Clock) -> None:
    """Write "last used" at most once a minute; a database that cannot write now must not stop a reader."""
    now_ms = clock.now_ms()
    if last_ms is not None and last_ms > now_ms - _LAST_USED_EVERY_MS:
        return
    try:
        with database.write() as transaction:
            transaction.execute(
                f"UPDATE accounts_{table} SET last_used_at_ms = ?"  # noqa: S608 - one of three names above
                " WHERE id = ? AND (last_used_at_ms IS NULL OR last_used_at_ms <= ?)",
                (now_ms, row_id, now_ms - _LAST_USED_EVERY_MS),
            )
    except Unavailable as error:
        log.warning("accounts.last_use_not_recorded", table=table, id=row_id, reason=str(error))


def _rehash(
    database: Database, user_id: int, password: str, password_hash: str, settings: AccountsSettings
) -> None:
    """Bring an old hash to today's cost, unless the password changed meanwhile."""
    if not needs_rehash(password_hash, settings):
        return
    try:
        with database.write() as transaction:
            transaction.execute(
                "UPDATE accounts_user SET password_hash = ? WHERE id = ? AND password_hash = ?",
                (hash_of(password, settings), user_id, password_hash),
            )
    except SiteFenced as fenced:
        log.info("accounts.password_not_rehashed", user_id=user_id, reason=str(fenced))
        return
    log.info("accounts.password_rehashed", user_id=user_id)
