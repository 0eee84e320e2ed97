"""Projects."""

import json
from dataclasses import dataclass
from typing import Any

from mainstay.access.roles import Role
from mainstay.cluster.labels import DEFAULT
from mainstay.doors.api.kit import Addresses
from mainstay.doors.api.shapes.people import user_brief
from mainstay.doors.api.shapes.places import namespace_brief, visibility
from mainstay.doors.api.shapes.times import moment
from mainstay.product.projects.lookup import Project

FEATURES = (
    "issues",
    "repository",
    "merge_requests",
    "forking",
    "wiki",
    "builds",
    "snippets",
    "pages",
    "analytics",
    "container_registry",
    "security_and_compliance",
    "releases",
    "environments",
    "feature_flags",
    "infrastructure",
    "monitor",
    "model_experiments",
    "model_registry",
)
_ENABLED_FLAGS = {"issues": "issues", "merge_requests": "merge_requests", "wiki": "wiki", "jobs": "builds",
                  "snippets": "snippets", "container_registry": "container_registry"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    """What a project's shape needs beside its row, looked up once for a whole page."""

    default_branch: str | None = None
    """None while the repository is empty."""
    forks: int = 0
    project_role: Role = Role.NONE
    """Of who asks, by membership in the project itself."""
    group_role: Role = Role.NONE
    """Of who asks, by membership in a group above."""
    source: Project | None = None
    """What it was forked from, if who asks may know of that."""
    storage: str = DEFAULT
    """Which label its git nodes shall have."""


def project_identity(project: Project) -> dict[str, Any]:
    """Which project it is, where another thing speaks of it."""
    return {
        "id": project.id,
        "description": project.description or None,
        "name": project.name,
        "name_with_namespace": f"{project.namespace.full_path.replace('/', ' / ')} / {project.name}",
        "path": project.path,
        "path_with_namespace": project.full_path,
        "created_at": moment(project.created_at_ms),
    }


def project_simple(project: Project, facts: ProjectFacts, addresses: Addresses) -> dict[str, Any]:
    """What `simple=true` gives, and what anonymous visitors get."""
    path = project.full_path
    topics = json.loads(project.topics)
    web_url = addresses.web(path)
    default_branch = facts.default_branch
    return {
        **project_identity(project),
        "default_branch": default_branch,
        "tag_list": topics,
        "topics": topics,
        "ssh_url_to_repo": addresses.ssh_clone(path),
        "http_url_to_repo": addresses.http_clone(path),
        "web_url": web_url,
        "readme_url": f"{web_url}/-/blob/{default_branch}/README.md" if default_branch else None,
        "forks_count": facts.forks,
        "avatar_url": None,
        "star_count": 0,
        "last_activity_at": moment(project.last_activity_at_ms),
        "visibility": visibility(project.visibility),
        "namespace": namespace_brief(project.namespace, addresses),
    }


def project_full(project: Project, facts: ProjectFacts, addresses: Addresses) -> dict[str, Any]:
    """Everything about a project, for people who are signed in."""
    return {
        **project_simple(project, facts, addresses),
        **_state(project, facts),
        **_features(project),
        **_merging(project),
        **_ci(project),
        "_links": _links(project, addresses),
        "owner": _owner(project, addresses),
        "creator_id": project.creator_id,
        "forked_from_project": _forked_from(facts.source, addresses),
        "shared_with_groups": [],
        "permissions": {
            "project_access": _permission(facts.project_role),
            "group_access": _permission(facts.group_role),
        },
    }


def _state(project: Project, facts: ProjectFacts) -> dict[str, Any]:
    return {
        "container_registry_image_prefix": None,
        "packages_enabled": True,
        "empty_repo": facts.default_branch is None,
        "archived": project.archived,
        "mirror": False,
        "lfs_enabled": project.lfs_enabled,
        "import_url": None,
        "import_type": None,
        "import_status": "none",
        "import_error": None,
        "open_issues_count": 0,
        "description_html": "",
        "updated_at": moment(project.last_activity_at_ms),
        "repository_object_format": "sha1",
        "marked_for_deletion_at": None,
        "marked_for_deletion_on": None,
        "compliance_frameworks": [],
        "request_access_enabled": False,
        "service_desk_enabled": False,
        "service_desk_address": None,
        "resolve_outdated_diff_discussions": False,
        "emails_disabled": False,
        "emails_enabled": True,
        "external_authorization_classification_label": "",
        "repository_storage": facts.storage,
    }


def _features(project: Project) -> dict[str, Any]:
    chosen: dict[str, str] = json.loads(project.features)
    levels = {f"{name}_access_level": chosen.get(name, "enabled") for name in FEATURES}
    flags = {
        f"{flag}_enabled": levels[f"{feature}_access_level"] != "disabled"
        for flag, feature in _ENABLED_FLAGS.items()
    }
    return {**levels, "requirements_access_level": "disabled", **flags}


def _merging(project: Project) -> dict[str, Any]:
    return {
        "merge_method": project.merge_method,
        "squash_option": project.squash_option,
        "only_allow_merge_if_pipeline_succeeds": project.only_allow_merge_if_pipeline_succeeds,
        "allow_merge_on_skipped_pipeline": None,
        "only_allow_merge_if_all_discussions_are_resolved": False,
        "remove_source_branch_after_merge": project.remove_source_branch_after_merge,
        "printing_merge_request_link_enabled": True,
        "suggestion_commit_message": None,
        "merge_commit_template": None,
        "squash_commit_template": None,
        "enforce_auth_checks_on_uploads": True,
        "autoclose_referenced_issues": True,
        "approvals_before_merge": 0,
        "issue_branch_template": None,
        "warn_about_potentially_unwanted_characters": True,
    }


def _ci(project: Project) -> dict[str, Any]:
    return {
        "shared_runners_enabled": project.shared_runners_enabled,
        "group_runners_enabled": True,
        "ci_config_path": project.ci_config_path or None,
        "ci_default_git_depth": 20,
        "ci_forward_deployment_enabled": True,
        "ci_job_token_scope_enabled": False,
        "ci_separated_caches": True,
        "ci_allow_fork_pipelines_to_run_in_parent_project": True,
        "build_git_strategy": "fetch",
        "build_timeout": 3600,
        "auto_cancel_pending_pipelines": "enabled",
        "auto_devops_enabled": False,
        "auto_devops_deploy_strategy": "continuous",
        "keep_latest_artifact": True,
        "public_jobs": True,
        "restrict_user_defined_variables": False,
        "runners_token": None,
        "runner_token_expiration_interval": None,
    }


def _links(project: Project, addresses: Addresses) -> dict[str, str]:
    own = f"{addresses.external_url}/api/v4/projects/{project.id}"
    return {
        "self": own,
        "issues": f"{own}/issues",
        "merge_requests": f"{own}/merge_requests",
        "repo_branches": f"{own}/repository/branches",
        "labels": f"{own}/labels",
        "events": f"{own}/events",
        "members": f"{own}/members",
    }


def _owner(project: Project, addresses: Addresses) -> dict[str, Any] | None:
    """Only a project in a user's own namespace has one owner."""
    owner = project.namespace.owner
    return None if owner is None else user_brief(owner, addresses)


def _forked_from(source: Project | None, addresses: Addresses) -> dict[str, Any] | None:
    return None if source is None else project_simple(source, ProjectFacts(), addresses)


def _permission(role: Role) -> dict[str, int] | None:
    return None if role == Role.NONE else {"access_level": int(role), "notification_level": 3}
