"""Deploy keys and deploy tokens: what machines come with. Each function is one transaction."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from mainstay.access.scopes import DEPLOY_SCOPES, scopes_from
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import NotFound
from mainstay.foundation.logs import get_logger
from mainstay.product.accounts.keys import parse_public_key
from mainstay.product.accounts.models import DeployToken, SshKey, User
from mainstay.product.accounts.names import check_text
from mainstay.product.accounts.secrets import DEPLOY_PREFIX, digest_of, new_token
from mainstay.product.accounts.services import add_deploy_key, expiry_of
from mainstay.product.accounts.writing import writing
from mainstay.product.projects.models import DeployKeyProject, DeployTokenGrant, Namespace, Project

log = get_logger()


class NoSuchDeployKey(NotFound):
    def __init__(self) -> None:
        super().__init__("no such deploy key")


class NoSuchDeployToken(NotFound):
    def __init__(self) -> None:
        super().__init__("no such deploy token")


@dataclass(frozen=True, slots=True)
class NewDeployToken:
    """The only moment the text of the token exists outside its owner's hands."""

    token: DeployToken
    plaintext: str


def create_deploy_key(
    project: Project, public_key: str, *, title: str = "", can_push: bool = False, clock: Clock = SYSTEM
) -> DeployKeyProject:
    """Let a key into this project. A deploy key of other projects is used again; a user's key is `Taken`."""
    fingerprint = parse_public_key(public_key).fingerprint
    with writing(taken="the deploy key is already enabled in this project"):
        key = SshKey.objects.filter(fingerprint=fingerprint, kind=SshKey.Kind.DEPLOY).first()
        if key is None:
            key = add_deploy_key(public_key, title=title, clock=clock)
        grant = DeployKeyProject.objects.create(
            key=key, project=project, can_push=can_push, created_at_ms=clock.now_ms()
        )
    log.info("projects.deploy_key_added", project_id=project.id, key_id=key.id, can_push=can_push)
    return grant


def set_deploy_key(
    grant: DeployKeyProject, *, can_push: bool | None = None, title: str | None = None
) -> DeployKeyProject:
    """Change what is given; the title is the key's in all its projects."""
    with writing():
        if title is not None:
            grant.key.title = check_text(title, what="the title of the key")
            grant.key.save(update_fields=["title"])
        if can_push is not None:
            grant.can_push = can_push
            grant.save(update_fields=["can_push"])
    return grant


def remove_deploy_key(grant: DeployKeyProject) -> None:
    """Out of this project; a key in no project at all is forgotten."""
    key, project_id = grant.key, grant.project_id
    with writing():
        grant.delete()
        if not key.grants.exists():
            key.delete()
    log.info("projects.deploy_key_removed", project_id=project_id)


def deploy_key_of(project: Project, key_id: int) -> DeployKeyProject:
    """The grant of this key in this project. Raises `NoSuchDeployKey`."""
    grant = DeployKeyProject.objects.select_related("key").filter(project=project, key_id=key_id).first()
    if grant is None:
        raise NoSuchDeployKey
    return grant


def create_deploy_token(
    place: Namespace | Project,
    *,
    name: str,
    scopes: Iterable[str],
    username: str = "",
    expires_on: date | None = None,
    creator: User | None = None,
    clock: Clock = SYSTEM,
) -> NewDeployToken:
    """A token for this project, or for this group and all below it. Raises `UnknownScope`, `BadExpiry`."""
    granted = scopes_from(scopes, allowed=DEPLOY_SCOPES)
    plaintext = new_token(DEPLOY_PREFIX)
    token = DeployToken(
        name=check_text(name, what="the name of the token"),
        username=check_text(username, what="the user name") if username else "",
        digest=digest_of(plaintext),
        scopes=" ".join(sorted(granted)),
        creator=creator,
        created_at_ms=clock.now_ms(),
        expires_at_ms=expiry_of(expires_on, clock),
    )
    with writing():
        token.save(force_insert=True)
        if not token.username:
            token.username = f"gitlab+deploy-token-{token.id}"
            token.save(update_fields=["username"])
        where = {"namespace": place} if isinstance(place, Namespace) else {"project": place}
        DeployTokenGrant.objects.create(token=token, **where)
    log.info("projects.deploy_token_created", token_id=token.id, place=str(place), scopes=token.scopes)
    return NewDeployToken(token, plaintext)


def revoke_deploy_token(token: DeployToken, *, clock: Clock = SYSTEM) -> None:
    """Revoking again is fine and keeps the first moment."""
    if token.revoked_at_ms is not None:
        return
    token.revoked_at_ms = clock.now_ms()
    with writing():
        token.save(update_fields=["revoked_at_ms"])
    log.info("projects.deploy_token_revoked", token_id=token.id)


def deploy_token_of(place: Namespace | Project, token_id: int) -> DeployToken:
    """The token of this very place. Raises `NoSuchDeployToken`."""
    grants = DeployTokenGrant.objects.select_related("token").filter(token_id=token_id)
    grants = grants.filter(namespace=place) if isinstance(place, Namespace) else grants.filter(project=place)
    grant = grants.first()
    if grant is None:
        raise NoSuchDeployToken
    return grant.token
