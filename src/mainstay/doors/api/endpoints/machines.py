"""Deploy keys of projects, deploy tokens of projects and groups, and all of them for administrators."""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from mainstay.access.actions import Action
from mainstay.doors.api.endpoint import Endpoint
from mainstay.doors.api.endpoints.project_endpoint import ProjectEndpoint
from mainstay.doors.api.errors import about
from mainstay.doors.api.paths import Reference
from mainstay.doors.api.shapes import people as shapes
from mainstay.doors.api.shapes.projects import project_identity
from mainstay.product.accounts.lookup import DeployToken, SshKey, user_of
from mainstay.product.projects import machines
from mainstay.product.projects.lookup import (
    DeployKeyProject,
    Namespace,
    Project,
    all_deploy_keys,
    all_deploy_tokens,
    deploy_keys_of,
    deploy_tokens_of,
    grants_of,
    group_for,
    project_for,
)


class DeployKeyEndpoint(ProjectEndpoint):
    anonymous_may_read = False

    def managed(self, project: Reference) -> Project:
        return self.project(project, Action.MANAGE_DEPLOY_KEYS)

    def key_shape(self, grant: DeployKeyProject) -> dict[str, Any]:
        return shapes.deploy_key(grant.key, can_push=grant.can_push)


class DeployKeys(DeployKeyEndpoint):
    def get(self, _request: Request, project: Reference) -> Response:
        return self.page(deploy_keys_of(self.managed(project)), self.key_shape)

    def post(self, _request: Request, project: Reference) -> Response:
        found = self.managed(project)
        self.parameters.require("title", "key")
        with about("key"):
            grant = machines.create_deploy_key(
                found,
                self.parameters.text("key"),
                title=self.parameters.text("title"),
                can_push=self.parameters.flag("can_push"),
                clock=self.kit.clock,
            )
        return self.created(self.key_shape(grant))


class OneDeployKey(DeployKeyEndpoint):
    def get(self, _request: Request, project: Reference, key: int) -> Response:
        return Response(self.key_shape(machines.deploy_key_of(self.managed(project), key)))

    def put(self, _request: Request, project: Reference, key: int) -> Response:
        grant = machines.deploy_key_of(self.managed(project), key)
        with about("title"):
            changed = machines.set_deploy_key(
                grant,
                can_push=self.parameters.maybe_boolean("can_push"),
                title=self.parameters.maybe_text("title"),
            )
        return Response(self.key_shape(changed))

    def delete(self, _request: Request, project: Reference, key: int) -> Response:
        machines.remove_deploy_key(machines.deploy_key_of(self.managed(project), key))
        return self.no_content()


class AllDeployKeys(Endpoint):
    """For administrators: which machine keys there are, and where each of them may push."""

    def get(self, _request: Request) -> Response:
        return self.shaped_page(all_deploy_keys(self.actor), self._shapes)

    def _shapes(self, keys: Sequence[SshKey]) -> list[dict[str, Any]]:
        grants = list(grants_of(keys))
        return [self._shape(key, [each for each in grants if each.key_id == key.id]) for key in keys]

    def _shape(self, key: SshKey, grants: Sequence[DeployKeyProject]) -> dict[str, Any]:
        shape = shapes.deploy_key(key, can_push=False)
        del shape["can_push"]
        return shape | {
            "projects_with_write_access": [
                project_identity(each.project) for each in grants if each.can_push
            ],
            "projects_with_readonly_access": [
                project_identity(each.project) for each in grants if not each.can_push
            ],
        }


class DeployTokenEndpoint(Endpoint):
    """Tokens of whatever the path names: `project` or `group`."""

    def managed(self, where: dict[str, Any]) -> Namespace | Project:
        if "project" in where:
            return project_for(
                self.actor, where["project"].key, Action.MANAGE_DEPLOY_TOKENS, clock=self.kit.clock
            )
        return group_for(
            self.actor, where["group"].key, Action.MANAGE_GROUP_DEPLOY_TOKENS, clock=self.kit.clock
        )

    def page_of_tokens(self, tokens: QuerySet[DeployToken]) -> Response:
        tokens = tokens.filter(revoked_at_ms__isnull=True)
        active = self.parameters.maybe_boolean("active")
        now_ms = self.kit.clock.now_ms()
        if active is True:
            tokens = tokens.exclude(expires_at_ms__lte=now_ms)
        if active is False:
            tokens = tokens.filter(expires_at_ms__lte=now_ms)
        return self.page(tokens, self.shape)

    def shape(self, token: DeployToken, secret: str | None = None) -> dict[str, Any]:
        return shapes.deploy_token(token, now_ms=self.kit.clock.now_ms(), secret=secret)


class DeployTokens(DeployTokenEndpoint):
    def get(self, _request: Request, **where: Any) -> Response:
        return self.page_of_tokens(deploy_tokens_of(self.managed(where)))

    def post(self, _request: Request, **where: Any) -> Response:
        place = self.managed(where)
        self.parameters.require("name", "scopes")
        with about("scopes"):
            made = machines.create_deploy_token(
                place,
                name=self.parameters.text("name"),
                scopes=self.parameters.texts("scopes") or (),
                username=self.parameters.maybe_text("username") or "",
                expires_on=self.parameters.maybe_date("expires_at"),
                creator=user_of(self.actor),
                clock=self.kit.clock,
            )
        return self.created(self.shape(made.token, made.plaintext))


class AllDeployTokens(DeployTokenEndpoint):
    """For administrators."""

    def get(self, _request: Request) -> Response:
        return self.page_of_tokens(all_deploy_tokens(self.actor))


class OneDeployToken(DeployTokenEndpoint):
    def get(self, _request: Request, token: int, **where: Any) -> Response:
        return Response(self.shape(machines.deploy_token_of(self.managed(where), token)))

    def delete(self, _request: Request, token: int, **where: Any) -> Response:
        found = machines.deploy_token_of(self.managed(where), token)
        machines.revoke_deploy_token(found, clock=self.kit.clock)
        return self.no_content()
