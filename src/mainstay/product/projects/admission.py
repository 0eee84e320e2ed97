"""Admission of a Git request: who asks, which project, what for. Plain SQL, no waiting on anything else.

Both Git doors come through here, so a key, a token and a password are judged alike. What somebody may not
know answers `NotFound`; somebody who showed no credentials is asked for them (`SignInNeeded`), whether the
project exists or not, so that the question gives nothing away.

A push to a path that does not exist makes a private project there, if the actor may. Looking (`create`
false) never makes one: `git push --dry-run` and a GET change nothing.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mainstay.access.actors import ANONYMOUS, Actor, Kind
from mainstay.access.policy import GitAction, PushRules
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Invalid, NotAllowed, NotFound
from mainstay.product.accounts import identify
from mainstay.product.accounts.settings import DEFAULTS, AccountsSettings
from mainstay.product.projects import locate
from mainstay.product.projects.locate import ProjectFacts
from mainstay.storage.database import Database, LocalDatabase, WouldWait

_PATH_CHARS_MAX = 1100
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


@dataclass(frozen=True, slots=True)
class Nobody:
    """No credentials were shown."""


@dataclass(frozen=True, slots=True)
class UserAndSecret:
    username: str
    secret: str

    def __repr__(self) -> str:
        return f"UserAndSecret({self.username!r}, [hidden])"


@dataclass(frozen=True, slots=True)
class Bearer:
    token: str

    def __repr__(self) -> str:
        return "Bearer([hidden])"


@dataclass(frozen=True, slots=True)
class SshKey:
    """A key whose owner has proved to have it, by its `SHA256:…` fingerprint."""

    fingerprint: str


NOBODY = Nobody()
Credentials = Nobody | UserAndSecret | Bearer | SshKey


class UnclearPath(Invalid):
    """The path can be read in more than one way, or in none."""


class SignInNeeded(NotAllowed):
    """Nobody signed in; with credentials the answer may be another."""


class UnknownKey(NotAllowed):
    """No key of that fingerprint, or its owner is blocked, or it has expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The actor may."""

    actor: Actor
    path: str
    """Of the project, as it is written."""
    repository_id: int | None
    """None: there is no project yet, and a push may make it."""
    rules: PushRules | None = None
    """Of a push."""
    created: bool = False
    """The project was made just now, for this push."""
    known_ago_s: int | None = None
    """Set when this was decided from memory (`remembered`): so long ago the database was last seen."""


def project_path(text: str) -> str:
    """`/ada/engine.git` as `ada/engine`. Strict: there is exactly one way to read a path, or none.

    Which names a project may have is not judged here: a path that nobody could have is just not found.
    """
    segments = text.removeprefix("/").split("/")
    segments[-1] = segments[-1].removesuffix(".git")
    if len(text) > _PATH_CHARS_MAX or _UNPRINTABLE.search(text):
        raise UnclearPath("the path of the repository is too long, or has a backslash or a control character")
    if any(segment in {"", ".", ".."} for segment in segments):
        raise UnclearPath("the path of the repository has an empty or dotted segment")
    if len(segments) == 1:
        raise NotFound("repository not found")
    return "/".join(segments)


class GitGate:
    """Asks `accounts` and `projects`; call from a thread, or in a block of `without_waiting`."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        create_on_push: Callable[[Actor, str], ProjectFacts],
        accounts: AccountsSettings = DEFAULTS,
    ) -> None:
        self._database = database
        self._local = database if isinstance(database, LocalDatabase) else None
        self._clock = clock
        self._accounts = accounts
        self._create_on_push = create_on_push

    def without_waiting(self, credentials: Credentials) -> AbstractContextManager[None]:
        """A block in which an event loop may `identify` these, and `enter` without `create`.

        Raises `WouldWait` for what is to be asked again in a thread: nothing was written, and no failed
        sign-in was counted.
        """
        if isinstance(credentials, UserAndSecret) and not identify.is_token(credentials.secret):
            raise WouldWait("a password is slow to check, on purpose")
        if self._local is None:
            raise WouldWait("the database is reached over the network")
        return self._local.without_waiting()

    def identify(self, credentials: Credentials, *, address: str) -> Actor:
        """Who this is. Raises `WrongCredentials`, `TooManyAttempts`, `UnknownKey`."""
        if isinstance(credentials, UserAndSecret):
            return identify.by_password_or_token(
                self._database,
                credentials.username,
                credentials.secret,
                address=address,
                clock=self._clock,
                settings=self._accounts,
            )
        if isinstance(credentials, Bearer):
            return identify.by_token(
                self._database,
                credentials.token,
                address=address,
                clock=self._clock,
                settings=self._accounts,
            )
        if isinstance(credentials, SshKey):
            return self._by_key(credentials.fingerprint)
        return ANONYMOUS

    def enter(self, actor: Actor, path: str, action: GitAction, *, create: bool) -> Admission:
        """Let the actor to the project at `path`. Raises `SignInNeeded`, `NotFound`, `NotAllowed`."""
        try:
            return self._enter(actor, path, action, create=create)
        except (NotFound, NotAllowed) as error:
            if actor.kind is Kind.ANONYMOUS:
                raise SignInNeeded("sign in to see whether there is such a repository") from error
            raise

    def _enter(self, actor: Actor, path: str, action: GitAction, *, create: bool) -> Admission:
        if action is GitAction.PULL:
            facts = locate.project_for(self._database, actor, path, action)
            return Admission(actor=actor, path=facts.full_path, repository_id=facts.repository_id)
        try:
            facts = locate.project_for(self._database, actor, path, action)
        except NotFound:
            return self._enter_new(actor, path, create=create)
        return self._pushing(actor, facts, created=False)

    def _enter_new(self, actor: Actor, path: str, *, create: bool) -> Admission:
        locate.check_may_create(self._database, actor, path)
        if not create:
            return Admission(actor=actor, path=path, repository_id=None)
        return self._pushing(actor, self._create_on_push(actor, path), created=True)

    def _pushing(self, actor: Actor, facts: ProjectFacts, *, created: bool) -> Admission:
        rules = locate.push_rules(self._database, actor, facts)
        return Admission(
            actor=actor,
            path=facts.full_path,
            repository_id=facts.repository_id,
            rules=rules,
            created=created,
        )

    def _by_key(self, fingerprint: str) -> Actor:
        actor = identify.by_ssh_key(self._database, fingerprint, clock=self._clock)
        if actor is None:
            raise UnknownKey("this key belongs to nobody here, or is blocked or expired")
        assert actor.token_id is not None, "an actor by key has the key's id"
        identify.note_ssh_key_used(self._database, actor.token_id, clock=self._clock)
        return actor

    def owner_of_key(self, fingerprint: str) -> Actor | None:
        """Whose key somebody claims to have; nothing is proved yet, and nothing is written."""
        return identify.by_ssh_key(self._database, fingerprint, clock=self._clock)
