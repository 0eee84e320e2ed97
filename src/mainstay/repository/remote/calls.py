"""What one node may ask of another: typed, versioned, and read strictly.

The version is in the address (`/rpc/v1/…`), so that a node can refuse one that it does not speak before it
reads anything. Inside a version fields may be added: who does not know them leaves them alone. A field that
must not be left alone is named in `needs`, and refused by whoever does not know it: `NotUnderstood`, upon
which the caller asks another node. So nodes of two releases work together in either order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mainstay.access.actors import Actor
from mainstay.access.actors import Kind as ActorKind
from mainstay.access.policy import ProtectedRef, PushRules
from mainstay.access.roles import Role
from mainstay.repository.push import PushContext
from mainstay.repository.questions import Addition, Question
from mainstay.repository.remote.questions import (
    NotUnderstood,
    addition_from,
    facts_of,
    facts_of_addition,
    question_from,
)
from mainstay.repository.remote.strict import BadFields, Fields, fields_of

VERSION = 1
ROOT = "/rpc"
_KNOWN_NEEDS: frozenset[str] = frozenset()
"""None yet."""
_ID_MAX = (1 << 63) - 1
_MESSAGE_CHARACTERS_MAX = 10_000
_PROTOCOL_VERSIONS = (0, 2)
_COMMAND_CHARACTERS_MAX = 10_000
_HOPS_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPack:
    """Serve a fetch: one request when `stateless`, a whole session otherwise."""

    name = "upload-pack"
    repository_id: int
    version: int
    """Of the Git protocol."""
    stateless: bool

    def encode(self) -> bytes:
        return _encode(
            repository_id=self.repository_id, version=self.version, stateless=self.stateless, needs=[]
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        fields = _checked(body)
        version = fields.whole("version", least=0, most=max(_PROTOCOL_VERSIONS))
        if version not in _PROTOCOL_VERSIONS:
            raise BadFields(f"there is no version {version} of a fetch")
        return cls(
            repository_id=_id(fields, "repository_id"), version=version, stateless=fields.flag("stateless")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivePack:
    """Serve a push. Who may do what was decided by the caller: these are the rules to judge it by."""

    name = "receive-pack"
    repository_id: int
    stateless: bool
    rules: PushRules
    context: PushContext

    def encode(self) -> bytes:
        return _encode(
            repository_id=self.repository_id,
            stateless=self.stateless,
            actor=self.rules.actor.facts,
            role=int(self.rules.role),
            branches=_protected(self.rules.branches),
            tags=_protected(self.rules.tags),
            address=self.context.address,
            transport=self.context.transport,
            request_id=self.context.request_id,
            messages=list(self.context.messages),
            needs=[],
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        fields = _checked(body)
        rules = PushRules(
            actor=actor_from(fields.inner("actor")),
            role=_role(fields, "role"),
            branches=_protected_from(fields, "branches"),
            tags=_protected_from(fields, "tags"),
        )
        context = PushContext(
            address=fields.text("address"),
            transport=fields.text("transport"),
            request_id=fields.text("request_id"),
            messages=tuple(fields.texts("messages", longest=_MESSAGE_CHARACTERS_MAX)),
        )
        return cls(
            repository_id=_id(fields, "repository_id"),
            stateless=fields.flag("stateless"),
            rules=rules,
            context=context,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Browse:
    """Answer a question about the objects of a repository."""

    name = "browse"
    repository_id: int
    question: Question

    def encode(self) -> bytes:
        return _encode(repository_id=self.repository_id, needs=[], **facts_of(self.question))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        fields = _checked(body)
        return cls(repository_id=_id(fields, "repository_id"), question=question_from(fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Add objects, which follow as a pack, and move a ref to them. That the actor may was decided before."""

    name = "write"
    addition: Addition

    @property
    def repository_id(self) -> int:
        return self.addition.repository_id

    def encode(self) -> bytes:
        return _encode(repository_id=self.repository_id, needs=[], **facts_of_addition(self.addition))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        fields = _checked(body)
        return cls(addition=addition_from(fields, _id(fields, "repository_id")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Hold one conversation of Git over SSH, for another site. Its client has proved there to have the key;
    whose key it is and what it may is decided where the call is answered.
    """

    name = "session"
    fingerprint: str
    address: str
    command: str | None
    """None: a shell."""
    git_protocol: str
    hops: int
    """By how many sites it was sent on before."""

    def encode(self) -> bytes:
        return _encode(
            fingerprint=self.fingerprint,
            address=self.address,
            command=self.command,
            git_protocol=self.git_protocol,
            hops=self.hops,
            needs=[],
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        fields = _checked(body)
        is_shell = fields.is_null("command")
        return cls(
            fingerprint=fields.text("fingerprint"),
            address=fields.text("address"),
            command=None if is_shell else fields.text("command", longest=_COMMAND_CHARACTERS_MAX),
            git_protocol=fields.text("git_protocol"),
            hops=fields.whole("hops", least=0, most=_HOPS_MAX),
        )


Call = UploadPack | ReceivePack | Browse | Write


def address_of(name: str, *, version: int = VERSION) -> str:
    """The path at which a call of this name is taken."""
    return f"{ROOT}/v{version}/{name}"


def _encode(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def _checked(body: bytes) -> Fields:
    fields = fields_of(body)
    unknown = sorted(set(fields.texts("needs", empty=True)) - _KNOWN_NEEDS)
    if unknown:
        raise NotUnderstood(f"this release does not know {unknown[0]!r}")
    return fields


def _id(fields: Fields, name: str) -> int:
    return fields.whole(name, least=1, most=_ID_MAX)


def _role(fields: Fields, name: str) -> Role:
    number = fields.whole(name, least=0, most=1000)
    try:
        return Role(number)
    except ValueError:
        raise BadFields(f"there is no role {number}") from None


def actor_from(fields: Fields) -> Actor:
    """The inverse of `Actor.facts`. Raises `BadFields`."""
    kind = fields.text("kind")
    if kind not in set(ActorKind):
        raise BadFields(f"there is no kind of actor {kind!r}")
    return Actor(
        kind=ActorKind(kind),
        id=fields.whole("id", least=0, most=_ID_MAX),
        name=fields.text("name"),
        is_admin=fields.flag("is_admin"),
        scopes=None if fields.is_null("scopes") else frozenset(fields.texts("scopes")),
        token_id=None if fields.is_null("token_id") else fields.whole("token_id", least=0, most=_ID_MAX),
    )


def _protected(rules: Sequence[ProtectedRef]) -> list[Mapping[str, object]]:
    return [
        {"pattern": rule.pattern, "push_role": int(rule.push_role), "allow_force": rule.allow_force}
        for rule in rules
    ]


def _protected_from(fields: Fields, name: str) -> Sequence[ProtectedRef]:
    return [
        ProtectedRef(
            pattern=each.text("pattern"),
            push_role=_role(each, "push_role"),
            allow_force=each.flag("allow_force"),
        )
        for each in fields.objects(name)
    ]
