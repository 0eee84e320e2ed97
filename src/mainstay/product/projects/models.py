"""Tables of namespaces, projects and of who may do what in them."""

from django.db import models

from mainstay.access.roles import Role, Visibility
from mainstay.product.accounts.models import DeployToken, SshKey, User

_VISIBILITIES = [(int(level), level.name.lower()) for level in Visibility]
_ROLES = [(int(role), role.name.lower()) for role in Role]


class Namespace(models.Model):
    """A user's own namespace, or a group, or a group in a group."""

    class Kind(models.TextChoices):
        USER = "user"
        GROUP = "group"

    kind = models.CharField(max_length=8, choices=Kind.choices)
    parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="children")
    owner = models.OneToOneField(User, models.CASCADE, null=True, related_name="namespace")
    """Of a user's namespace; None for groups, whose owners are members."""
    name = models.CharField(max_length=255)
    path = models.CharField(max_length=255)
    full_path = models.CharField(max_length=1024)
    full_path_lower = models.CharField(max_length=1024, unique=True)
    visibility = models.SmallIntegerField(choices=_VISIBILITIES, default=Visibility.PRIVATE)
    description = models.TextField(blank=True, default="")
    created_at_ms = models.BigIntegerField()

    def __str__(self) -> str:
        return self.full_path


class Project(models.Model):
    namespace = models.ForeignKey(Namespace, models.PROTECT, related_name="projects")
    name = models.CharField(max_length=255)
    path = models.CharField(max_length=255)
    full_path = models.CharField(max_length=1024)
    full_path_lower = models.CharField(max_length=1024, unique=True)
    repository_id = models.BigIntegerField(unique=True)
    """Of the ledger, which has its own life: no foreign key."""
    visibility = models.SmallIntegerField(choices=_VISIBILITIES, default=Visibility.PRIVATE)
    description = models.TextField(blank=True, default="")
    archived = models.BooleanField(default=False)
    creator = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    forked_from = models.ForeignKey("self", models.SET_NULL, null=True, related_name="forks")
    topics = models.TextField(default="[]")
    """JSON list of words."""
    merge_method = models.CharField(max_length=16, default="merge")
    squash_option = models.CharField(max_length=16, default="default_off")
    only_allow_merge_if_pipeline_succeeds = models.BooleanField(default=False)
    remove_source_branch_after_merge = models.BooleanField(default=True)
    lfs_enabled = models.BooleanField(default=True)
    shared_runners_enabled = models.BooleanField(default=True)
    ci_config_path = models.CharField(max_length=255, blank=True, default="")
    features = models.TextField(default="{}")
    """JSON object: feature to access level, only where it is not the default `enabled`."""
    created_at_ms = models.BigIntegerField()
    last_activity_at_ms = models.BigIntegerField()

    def __str__(self) -> str:
        return self.full_path


class PathClaim(models.Model):
    """One row per path in use, so that a group and a project can never share one, race or not."""

    full_path_lower = models.CharField(max_length=1024, primary_key=True)
    namespace = models.OneToOneField(Namespace, models.CASCADE, null=True, related_name="claim")
    project = models.OneToOneField(Project, models.CASCADE, null=True, related_name="claim")

    def __str__(self) -> str:
        return self.full_path_lower


class Member(models.Model):
    """A role in one group (and all below it) or in one project."""

    namespace = models.ForeignKey(Namespace, models.CASCADE, null=True, related_name="members")
    project = models.ForeignKey(Project, models.CASCADE, null=True, related_name="members")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    access_level = models.SmallIntegerField(choices=_ROLES)
    expires_at_ms = models.BigIntegerField(null=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at_ms = models.BigIntegerField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["namespace", "user"], name="member_once_per_group"),
            models.UniqueConstraint(fields=["project", "user"], name="member_once_per_project"),
            models.CheckConstraint(
                condition=models.Q(namespace__isnull=True) ^ models.Q(project__isnull=True),
                name="member_of_one_thing",
            ),
        )

    def __str__(self) -> str:
        return f"{self.user_id} in {self.namespace_id or self.project_id}"


class ProtectedRule(models.Model):
    """What protects branches or tags of a name or pattern."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="+")
    pattern = models.CharField(max_length=255)
    push_role = models.SmallIntegerField(choices=_ROLES, default=Role.MAINTAINER)
    """The least role that may push (a branch) or create (a tag); 0 means nobody."""

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.pattern


class ProtectedBranch(ProtectedRule):
    merge_role = models.SmallIntegerField(choices=_ROLES, default=Role.MAINTAINER)
    allow_force = models.BooleanField(default=False)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["project", "pattern"], name="protected_branch_once"),)


class ProtectedTag(ProtectedRule):
    class Meta:
        constraints = (models.UniqueConstraint(fields=["project", "pattern"], name="protected_tag_once"),)


class DeployKeyProject(models.Model):
    """A deploy key is valid in this project."""

    key = models.ForeignKey(SshKey, models.CASCADE, related_name="grants")
    project = models.ForeignKey(Project, models.CASCADE, related_name="deploy_keys")
    can_push = models.BooleanField(default=False)
    created_at_ms = models.BigIntegerField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["key", "project"], name="deploy_key_once"),)

    def __str__(self) -> str:
        return f"{self.key_id} in {self.project_id}"


class DeployTokenGrant(models.Model):
    """A deploy token is valid in this project, or in this group and all below it."""

    token = models.OneToOneField(DeployToken, models.CASCADE, related_name="grant")
    namespace = models.ForeignKey(Namespace, models.CASCADE, null=True, related_name="deploy_tokens")
    project = models.ForeignKey(Project, models.CASCADE, null=True, related_name="deploy_tokens")

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=models.Q(namespace__isnull=True) ^ models.Q(project__isnull=True),
                name="deploy_token_of_one_thing",
            ),
        )

    def __str__(self) -> str:
        return f"{self.token_id} in {self.namespace_id or self.project_id}"
