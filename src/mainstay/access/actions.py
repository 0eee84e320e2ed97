"""What somebody may want to do to a project, a group or the instance."""

from enum import StrEnum


class GitAction(StrEnum):
    """What a Git client comes for."""

    PULL = "pull"
    PUSH = "push"


class Action(StrEnum):
    # Projects
    READ_PROJECT = "read_project"
    READ_CODE = "read_code"
    """Look at files, branches and commits through web or API; the same right as `PULL`."""
    READ_MEMBERS = "read_members"
    PULL = "pull"
    PUSH = "push"
    CREATE_BRANCH = "create_branch"
    DELETE_BRANCH = "delete_branch"
    CREATE_TAG = "create_tag"
    DELETE_TAG = "delete_tag"
    FORK_PROJECT = "fork_project"
    MANAGE_MEMBERS = "manage_members"
    MANAGE_PROTECTED = "manage_protected"
    MANAGE_DEPLOY_KEYS = "manage_deploy_keys"
    MANAGE_DEPLOY_TOKENS = "manage_deploy_tokens"
    UPDATE_PROJECT = "update_project"
    CHANGE_VISIBILITY = "change_visibility"
    ARCHIVE_PROJECT = "archive_project"
    TRANSFER_PROJECT = "transfer_project"
    DELETE_PROJECT = "delete_project"

    # Groups and namespaces
    READ_GROUP = "read_group"
    READ_GROUP_MEMBERS = "read_group_members"
    CREATE_PROJECT = "create_project"
    CREATE_SUBGROUP = "create_subgroup"
    MANAGE_GROUP_MEMBERS = "manage_group_members"
    MANAGE_GROUP_DEPLOY_TOKENS = "manage_group_deploy_tokens"
    UPDATE_GROUP = "update_group"
    TRANSFER_GROUP = "transfer_group"
    DELETE_GROUP = "delete_group"

    # The instance and oneself
    READ_SELF = "read_self"
    READ_USERS = "read_users"
    UPDATE_SELF = "update_self"
    CREATE_GROUP = "create_group"
    IMPERSONATE = "impersonate"
    ADMIN = "admin"
