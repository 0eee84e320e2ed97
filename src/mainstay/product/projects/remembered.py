"""A gate that remembers whom it let in to fetch, for the time when the database is away.

Only where the operator wants it (`stale_reads_seconds`). In an outage somebody may fetch

- with the same credentials, from the same path, as this node let them before, never push;
- if that was within the window before the outage began, and the window since is not over;
- if the right was found to hold again within the last minute before the outage: a thread asks for
  everybody it remembers, so that what was revoked is forgotten. Whoever is refused is forgotten at once.

What is kept of credentials is a keyed hash; of tokens and keys also the digest that the database has.
"""

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mainstay.access.actors import ANONYMOUS, Actor, Kind
from mainstay.access.policy import GitAction
from mainstay.cache.known import Known, KnownFile
from mainstay.cache.outage import Outage
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, NotAllowed, NotFound, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter
from mainstay.product.accounts import identify
from mainstay.product.accounts.secrets import DEPLOY_PREFIX, digest_of
from mainstay.product.accounts.settings import DEFAULTS, AccountsSettings
from mainstay.product.projects.admission import (
    Admission,
    Bearer,
    Credentials,
    GitGate,
    SignInNeeded,
    SshKey,
    UserAndSecret,
)
from mainstay.product.projects.locate import ProjectFacts
from mainstay.storage.database import Database, DatabaseAway

log = get_logger()

_ACTOR, _PULL = "actor", "pull"
_CHECKED_MS_MAX = 60_000
_CHECK_EVERY_S = 5.0
_CHECKED_PER_ROUND_MAX = 300
_NOTE_AGAIN_MS = 10_000
_RECENT_MAX = 20_000

REMEMBERED = counter(
    "remembered_admissions_total", "Fetches admitted from memory while the database was away."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedActor(Actor):
    """Somebody who was identified before the database went away. May fetch what they fetched before."""


class RememberingGate(GitGate):
    """Implements the gate; `start` its checks in one process of a node, and `close` it at the end."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        create_on_push: Callable[[Actor, str], ProjectFacts],
        accounts: AccountsSettings = DEFAULTS,
        known: KnownFile,
        outage: Outage,
        key: bytes,
    ) -> None:
        super().__init__(database, clock=clock, create_on_push=create_on_push, accounts=accounts)
        self._known = known
        self._outage = outage
        self._key = key
        self._noted_ms: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._check_until_stopped, name="remembered", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()

    # The gate
    def identify(self, credentials: Credentials, *, address: str) -> Actor:
        key = self._mac(*_parts_of(credentials))
        if self._outage.is_on:
            return self._remembered_actor(credentials, key)
        try:
            actor = super().identify(credentials, address=address)
        except NotAllowed:
            self._forget(_ACTOR, key)
            raise
        if actor.kind is not Kind.ANONYMOUS and self._is_due(key):
            self._note(_ACTOR, key, {"actor": actor.facts, "proof": self._proof_of(credentials, actor)})
        return actor

    def enter(self, actor: Actor, path: str, action: GitAction, *, create: bool) -> Admission:
        key = self._mac(actor.label, str(actor.token_id), str(actor.scopes is None), path.lower())
        if isinstance(actor, RememberedActor) or self._outage.is_on:
            try:
                return self._remembered_entry(actor, action, key)
            except DatabaseAway as away:
                if actor.kind is Kind.ANONYMOUS:  # git shows its credentials only when it is asked to
                    raise SignInNeeded("sign in to see whether there is such a repository") from away
                raise
        if action is not GitAction.PULL:
            return super().enter(actor, path, action, create=create)
        try:
            admission = super().enter(actor, path, action, create=create)
        except (NotAllowed, NotFound):
            self._forget(_PULL, key)
            raise
        if self._is_due(key):
            facts = {"actor": actor.facts, "path": admission.path}
            self._note(_PULL, key, {**facts, "repository": admission.repository_id})
        return admission

    def owner_of_key(self, fingerprint: str) -> Actor | None:
        if self._outage.is_on:
            credentials = SshKey(fingerprint)
            return self._remembered_actor(credentials, self._mac(*_parts_of(credentials)))
        return super().owner_of_key(fingerprint)

    def _remembered_actor(self, credentials: Credentials, key: str) -> Actor:
        if not _parts_of(credentials):
            return ANONYMOUS
        found = self._usable(_ACTOR, key)
        return RememberedActor(**_actor_arguments(json.loads(found.value)["actor"]))

    def _remembered_entry(self, actor: Actor, action: GitAction, key: str) -> Admission:
        if action is not GitAction.PULL:
            raise DatabaseAway("the database is away: pushes wait until it is back")
        facts = json.loads(self._usable(_PULL, key).value)
        ago_s = self._outage.check_window()
        REMEMBERED.inc()
        log.warning("gate.remembered", actor=actor.label, project=facts["path"], database_seen_ago_s=ago_s)
        return Admission(
            actor=actor, path=facts["path"], repository_id=facts["repository"], known_ago_s=ago_s
        )

    def _usable(self, kind: str, key: str) -> Known:
        """What is known under `key`, if it may still be relied on. Raises `DatabaseAway`."""
        self._outage.check_window()
        found, seen_ms = self._known.find(kind, key), self._outage.seen_ms
        if (
            found is None
            or found.noted_ms < seen_ms - self._outage.window_s * 1000
            or found.checked_ms < seen_ms - _CHECKED_MS_MAX
        ):
            raise DatabaseAway("the database is away, and you have not fetched this from here lately")
        return found

    # Remembering
    def _is_due(self, key: str) -> bool:
        """Whether this was not noted a moment ago, by this process."""
        return self._clock.now_ms() - self._noted_ms.get(key, 0) >= _NOTE_AGAIN_MS

    def _note(self, kind: str, key: str, facts: Mapping[str, Any]) -> None:
        if len(self._noted_ms) > _RECENT_MAX:
            self._noted_ms.clear()
        self._noted_ms[key] = self._clock.now_ms()
        try:
            self._known.note(kind, key, json.dumps(facts).encode())
        except Unavailable as error:
            log.warning("gate.not_remembered", because=str(error))

    def _forget(self, kind: str, key: str) -> None:
        self._noted_ms.pop(key, None)
        try:
            if self._known.find(kind, key) is not None:
                self._known.forget(kind, key)
        except Unavailable as error:
            log.warning("gate.not_forgotten", because=str(error))

    def _mac(self, *parts: str) -> str:
        message = json.dumps(parts).encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()

    # Checking what is remembered
    def _check_until_stopped(self) -> None:
        while not self._stopping.wait(_CHECK_EVERY_S):
            try:
                self.check_round()
            except MainstayError as error:
                log.debug("gate.not_checked", because=str(error))

    def check_round(self) -> None:
        """Ask again for those who were not asked for longest. What is refused now is forgotten."""
        for kind, still_holds in ((_ACTOR, self._is_still_somebody), (_PULL, self._may_still_pull)):
            for each in self._known.longest_unchecked(kind, limit=_CHECKED_PER_ROUND_MAX):
                if self._outage.last_failed():
                    return
                if still_holds(json.loads(each.value)):
                    self._known.mark_checked(kind, each.key)
                else:
                    self._forget(kind, each.key)
        self._known.forget_old(before_ms=self._clock.now_ms() - 2 * self._outage.window_s * 1000)

    def _is_still_somebody(self, facts: Mapping[str, Any]) -> bool:
        actor, proof = facts["actor"], facts["proof"]
        now = self._proved(proof)
        return now is not None and now.facts == actor

    def _may_still_pull(self, facts: Mapping[str, Any]) -> bool:
        actor = Actor(**_actor_arguments(facts["actor"]))
        try:
            admission = super().enter(actor, facts["path"], GitAction.PULL, create=False)
        except (NotAllowed, NotFound):
            return False
        return bool(admission.repository_id == facts["repository"])

    def _proof_of(self, credentials: Credentials, actor: Actor) -> dict[str, Any]:
        """By what the database can be asked again, without the secret."""
        if isinstance(credentials, SshKey):
            return {"key": credentials.fingerprint}
        secret = credentials.token if isinstance(credentials, Bearer) else _secret_of(credentials)
        if identify.is_token(secret):
            return {"token": digest_of(secret), "is_deploy": secret.startswith(DEPLOY_PREFIX)}
        return {"user": actor.id, "password": identify.password_mark(self._database, actor.id)}

    def _proved(self, proof: Mapping[str, Any]) -> Actor | None:
        if "key" in proof:
            return identify.by_ssh_key(self._database, proof["key"], clock=self._clock)
        if "token" in proof:
            return identify.by_digest(
                self._database, proof["token"], is_deploy=proof["is_deploy"], clock=self._clock
            )
        return identify.by_password_mark(self._database, proof["user"], proof["password"])


def _secret_of(credentials: Credentials) -> str:
    return credentials.secret if isinstance(credentials, UserAndSecret) else ""


def _parts_of(credentials: Credentials) -> tuple[str, ...]:
    """What tells these credentials from others; empty for nobody's."""
    if isinstance(credentials, UserAndSecret):
        return ("basic", credentials.username.lower(), credentials.secret)
    if isinstance(credentials, Bearer):
        return ("bearer", credentials.token)
    if isinstance(credentials, SshKey):
        return ("key", credentials.fingerprint)
    return ()


def _actor_arguments(facts: Mapping[str, Any]) -> dict[str, Any]:
    scopes = facts["scopes"]
    return {
        **facts,
        "kind": Kind(facts["kind"]),
        "scopes": None if scopes is None else frozenset(scopes),
    }
