"""SSH keys of users."""

from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.doors.api.endpoint import Endpoint, find_user
from mainstay.doors.api.endpoints.users import READ_USER
from mainstay.doors.api.errors import about
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes import people
from mainstay.doors.api.shapes.times import moment
from mainstay.product.accounts import services
from mainstay.product.accounts.lookup import (
    NoSuchKey,
    SshKey,
    User,
    key_by_fingerprint,
    require,
    ssh_key_for,
    ssh_keys_for,
    user_of,
)
from mainstay.product.projects.lookup import grants_of


class KeyEndpoint(Endpoint):
    accepted_scopes = READ_USER

    def add(self, user: User) -> Response:
        self.parameters.require("title", "key")
        expires_at_ms = self.parameters.maybe_moment_ms("expires_at")
        with about("key"):
            key = services.add_ssh_key(
                user,
                self.parameters.text("key"),
                title=self.parameters.text("title"),
                expires_at_ms=expires_at_ms,
                clock=self.kit.clock,
            )
        return self.created(people.ssh_key(key))


class OwnKeys(KeyEndpoint):
    def get(self, _request: Request) -> Response:
        return self.page(ssh_keys_for(self.actor, user_of(self.actor)), people.ssh_key)

    def post(self, _request: Request) -> Response:
        return self.add(user_of(self.actor))


class OwnKey(KeyEndpoint):
    def get(self, _request: Request, key: int) -> Response:
        return Response(people.ssh_key(self._own(key)))

    def delete(self, _request: Request, key: int) -> Response:
        services.remove_ssh_key(self._own(key))
        return self.no_content()

    def _own(self, key: int) -> SshKey:
        return ssh_key_for(self.actor, key, owner=user_of(self.actor))


class UserKeys(KeyEndpoint):
    def get(self, _request: Request, user: Reference) -> Response:
        return self.page(ssh_keys_for(self.actor, find_user(self.actor, user)), people.ssh_key)

    def post(self, _request: Request, user: Reference) -> Response:
        require(Action.ADMIN, self.actor)
        return self.add(find_user(self.actor, user))


class UserKey(KeyEndpoint):
    def get(self, _request: Request, user: Reference, key: int) -> Response:
        found = ssh_keys_for(self.actor, find_user(self.actor, user)).filter(id=key).first()
        if found is None:
            raise NoSuchKey
        return Response(people.ssh_key(found))

    def delete(self, _request: Request, user: Reference, key: int) -> Response:
        require(Action.ADMIN, self.actor)
        services.remove_ssh_key(ssh_key_for(self.actor, key, owner=find_user(self.actor, user)))
        return self.no_content()


class AnyKey(Endpoint):
    """Whose key is this? For administrators."""

    def get(self, _request: Request, key: int) -> Response:
        require(Action.ADMIN, self.actor)
        return Response(self.with_owner(ssh_key_for(self.actor, key)))

    def with_owner(self, key: SshKey) -> dict[str, object]:
        """A deploy key is nobody's: it opens projects instead."""
        if key.user is not None:
            return {**people.ssh_key(key), "user": people.user_public(key.user, self.addresses)}
        opened = [
            {
                "id": grant.id,
                "deploy_key_id": key.id,
                "project_id": grant.project_id,
                "can_push": grant.can_push,
                "created_at": moment(grant.created_at_ms),
            }
            for grant in grants_of([key])
        ]
        return {**people.ssh_key(key), "user": None, "deploy_keys_projects": opened}


class KeyByFingerprint(AnyKey):
    def get(self, _request: Request) -> Response:  # type: ignore[override]  # another path
        self.parameters.require("fingerprint")
        found = key_by_fingerprint(self.actor, self.parameters.text("fingerprint"))
        return Response(self.with_owner(found))
