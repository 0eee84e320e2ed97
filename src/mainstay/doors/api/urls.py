"""The routes of the API, relative to `/api/v4/`.

The composition root calls `patterns(kit)` once; whatever no route knows is answered here, too, so that
nothing under the prefix ever reaches Django's own pages.
"""

from typing import Any

from django.urls import URLPattern, path, re_path

from mainstay.doors.api import paths  # noqa: F401 - registers the converters used below
from mainstay.doors.api.endpoint import Endpoint, unknown_route
from mainstay.doors.api.endpoints import (
    about,
    application,
    branches,
    cluster,
    commits,
    groups,
    keys,
    machines,
    members,
    namespaces,
    projects,
    protection,
    tags,
    tokens,
    users,
)
from mainstay.doors.api.kit import Kit

_GROUP = "groups/<reference:group>"
_PROJECT = "projects/<reference:project>"
_BRANCHES = f"{_PROJECT}/repository/branches"

ROUTES: dict[str, type[Endpoint]] = {
    "version": about.Version,
    "metadata": about.Metadata,
    "cluster/nodes": cluster.Nodes,
    "cluster/sites": cluster.Sites,
    "application/settings": application.ApplicationSettings,
    "maintenance": application.MaintenanceState,
    "user": users.CurrentUser,
    "user/status": users.OwnStatus,
    "user/keys": keys.OwnKeys,
    "user/keys/<number:key>": keys.OwnKey,
    "user/personal_access_tokens": tokens.OwnTokens,
    "users": users.Users,
    "users/<reference:user>": users.OneUser,
    "users/<reference:user>/status": users.Status,
    "users/<reference:user>/block": users.Block,
    "users/<reference:user>/unblock": users.Unblock,
    "users/<reference:user>/keys": keys.UserKeys,
    "users/<reference:user>/keys/<number:key>": keys.UserKey,
    "users/<reference:user>/personal_access_tokens": tokens.UserTokens,
    "keys": keys.KeyByFingerprint,
    "keys/<number:key>": keys.AnyKey,
    "deploy_keys": machines.AllDeployKeys,
    "deploy_tokens": machines.AllDeployTokens,
    "personal_access_tokens": tokens.Tokens,
    "personal_access_tokens/self": tokens.OwnToken,
    "personal_access_tokens/self/rotate": tokens.RotateOwnToken,
    "personal_access_tokens/<number:token>": tokens.OneToken,
    "personal_access_tokens/<number:token>/rotate": tokens.RotateToken,
    # Groups
    "groups": groups.Groups,
    _GROUP: groups.OneGroup,
    f"{_GROUP}/subgroups": groups.Subgroups,
    f"{_GROUP}/descendant_groups": groups.DescendantGroups,
    f"{_GROUP}/projects": groups.GroupProjects,
    f"{_GROUP}/transfer": groups.TransferGroup,
    f"{_GROUP}/members": members.Members,
    f"{_GROUP}/members/all": members.AllMembers,
    f"{_GROUP}/members/all/<number:user>": members.OneOfAllMembers,
    f"{_GROUP}/members/<number:user>": members.OneMember,
    f"{_GROUP}/deploy_tokens": machines.DeployTokens,
    f"{_GROUP}/deploy_tokens/<number:token>": machines.OneDeployToken,
    "namespaces": namespaces.Namespaces,
    "namespaces/<reference:namespace>": namespaces.OneNamespace,
    "namespaces/<text:namespace>/exists": namespaces.NamespaceExists,
    # Projects
    "projects": projects.Projects,
    "projects/user/<reference:user>": projects.ProjectsForUser,
    "users/<reference:user>/projects": projects.ProjectsForUser,
    _PROJECT: projects.OneProject,
    f"{_PROJECT}/archive": projects.Archive,
    f"{_PROJECT}/unarchive": projects.Unarchive,
    f"{_PROJECT}/transfer": projects.Transfer,
    f"{_PROJECT}/fork": projects.Fork,
    f"{_PROJECT}/forks": projects.Forks,
    f"{_PROJECT}/members": members.Members,
    f"{_PROJECT}/members/all": members.AllMembers,
    f"{_PROJECT}/members/all/<number:user>": members.OneOfAllMembers,
    f"{_PROJECT}/members/<number:user>": members.OneMember,
    f"{_PROJECT}/deploy_keys": machines.DeployKeys,
    f"{_PROJECT}/deploy_keys/<number:key>": machines.OneDeployKey,
    f"{_PROJECT}/deploy_tokens": machines.DeployTokens,
    f"{_PROJECT}/deploy_tokens/<number:token>": machines.OneDeployToken,
    # Repositories
    _BRANCHES: branches.Branches,
    f"{_BRANCHES}/<segment:branch>": branches.OneBranch,
    f"{_BRANCHES}/<segment:branch>/protect": protection.ProtectBranch,
    f"{_BRANCHES}/<segment:branch>/unprotect": protection.UnprotectBranch,
    f"{_PROJECT}/repository/merged_branches": branches.MergedBranches,
    f"{_PROJECT}/repository/tags": tags.Tags,
    f"{_PROJECT}/repository/tags/<segment:tag>": tags.OneTag,
    f"{_PROJECT}/repository/commits": commits.Commits,
    f"{_PROJECT}/repository/commits/<segment:sha>": commits.OneCommit,
    f"{_PROJECT}/protected_branches": protection.ProtectedBranches,
    f"{_PROJECT}/protected_branches/<text:name>": protection.OneProtectedBranch,
    f"{_PROJECT}/protected_tags": protection.ProtectedTags,
    f"{_PROJECT}/protected_tags/<text:name>": protection.OneProtectedTag,
}


def patterns(kit: Kit) -> list[URLPattern]:
    """The routes, each with the dependencies it works with."""
    known: list[Any] = [path(route, endpoint.as_view(kit=kit)) for route, endpoint in ROUTES.items()]
    return [*known, re_path(r"", unknown_route)]
