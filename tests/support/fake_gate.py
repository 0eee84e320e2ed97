"""A gate with a handful of people and projects in memory, in the shape of `projects.admission.GitGate`."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from mainstay.access.actors import ANONYMOUS, Actor, Kind
from mainstay.access.policy import GitAction, PushRules
from mainstay.access.roles import Role
from mainstay.foundation.errors import MainstayError
from mainstay.product.accounts.identify import WrongCredentials
from mainstay.product.projects.admission import (
    Admission,
    Bearer,
    Credentials,
    GitGate,
    SignInNeeded,
    SshKey,
    UnknownKey,
    UserAndSecret,
)
from mainstay.product.projects.locate import NoSuchProject, NotPermitted

ADA = Actor(kind=Kind.USER, id=7, name="ada", token_id=1)
EVE = Actor(kind=Kind.USER, id=8, name="eve", token_id=2)
ROBOT = Actor(kind=Kind.DEPLOY_KEY, id=3, name="build machine", token_id=3)


@dataclass
class FakeGate(GitGate):
    """`ada` owns the private `ada/engine`; `world/open` is public; others see and may nothing."""

    keys: dict[str, Actor] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)
    broken: MainstayError | Exception | None = None
    asked: list[Credentials] = field(default_factory=list)

    def without_waiting(self, credentials: Credentials) -> AbstractContextManager[None]:
        return nullcontext()

    def identify(self, credentials: Credentials, *, address: str) -> Actor:
        self.asked.append(credentials)
        if isinstance(credentials, UserAndSecret):
            return self._by_secret(credentials.secret)
        if isinstance(credentials, Bearer):
            return self._by_secret(credentials.token)
        if isinstance(credentials, SshKey):
            owner = self.owner_of_key(credentials.fingerprint)
            if owner is None:
                raise UnknownKey("this key belongs to nobody here")
            return owner
        return ANONYMOUS

    def owner_of_key(self, fingerprint: str) -> Actor | None:
        return self.keys.get(fingerprint)

    def enter(self, actor: Actor, path: str, action: GitAction, *, create: bool) -> Admission:
        if self.broken:
            raise self.broken
        if path == "world/open" and action is GitAction.PULL:
            return Admission(actor=actor, path=path, repository_id=1)
        if actor is ANONYMOUS:
            raise SignInNeeded("sign in to see whether there is such a repository")
        if path == "world/open":
            raise NotPermitted("you are not allowed to push code to this project")
        return self._enter_own(actor, path, action, create=create)

    def _enter_own(self, actor: Actor, path: str, action: GitAction, *, create: bool) -> Admission:
        rules = PushRules(actor=actor, role=Role.OWNER) if action is GitAction.PUSH else None
        is_there = path in {"ada/engine", *self.created}
        if actor == ROBOT and action is GitAction.PUSH:
            raise NotPermitted("this deploy key may only read")
        if actor != ROBOT and not path.startswith(f"{actor.name}/"):
            raise NoSuchProject(path)
        if not is_there and action is GitAction.PULL:
            raise NoSuchProject(path)
        if not is_there and create:
            self.created.append(path)
        return Admission(
            actor=actor,
            path=path,
            repository_id=1 if is_there or create else None,
            rules=rules,
            created=create and not is_there,
        )

    @staticmethod
    def _by_secret(secret: str) -> Actor:
        try:
            return {"ada-secret": ADA, "eve-secret": EVE}[secret]
        except KeyError:
            raise WrongCredentials from None
