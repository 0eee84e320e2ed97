"""Tables of people and of what they sign in with.

Credentials of machines (deploy keys, deploy tokens) live here too: this room says *who* somebody is, and
`projects` says where they may do what. So one unique index keeps an SSH key from belonging to two owners.
"""

from django.db import models


class User(models.Model):
    class State(models.TextChoices):
        ACTIVE = "active"
        BLOCKED = "blocked"

    username = models.CharField(max_length=255)
    username_lower = models.CharField(max_length=255, unique=True)
    name = models.CharField(max_length=255)
    email = models.CharField(max_length=255, blank=True, default="")
    email_lower = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001 - NULL is not unique
    password_hash = models.CharField(max_length=255, blank=True, default="")
    """An argon2id hash; empty for somebody who cannot sign in by password."""
    password_changed_at_ms = models.BigIntegerField(default=0)
    state = models.CharField(max_length=16, choices=State.choices, default=State.ACTIVE)
    is_admin = models.BooleanField(default=False)
    can_create_group = models.BooleanField(default=True)
    projects_limit = models.IntegerField(default=100_000)
    bio = models.CharField(max_length=255, blank=True, default="")
    created_at_ms = models.BigIntegerField()
    last_sign_in_at_ms = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return self.username


class SshKey(models.Model):
    """A public key, of a user or (without one) a deploy key."""

    class Kind(models.TextChoices):
        USER = "user"
        DEPLOY = "deploy"

    kind = models.CharField(max_length=8, choices=Kind.choices)
    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="ssh_keys")
    title = models.CharField(max_length=255)
    public_key = models.TextField()
    """Type and base64, without comment: `ssh-ed25519 AAAA…`."""
    fingerprint = models.CharField(max_length=64, unique=True)
    """`SHA256:…`, as OpenSSH prints it."""
    created_at_ms = models.BigIntegerField()
    expires_at_ms = models.BigIntegerField(null=True)
    last_used_at_ms = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return self.title


class PersonalAccessToken(models.Model):
    user = models.ForeignKey(User, models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=255)
    description = models.CharField(max_length=1000, blank=True, default="")
    digest = models.CharField(max_length=64, unique=True)
    """SHA-256 of the token in hex. The token has 120 random bits, so it needs no slow hash."""
    scopes = models.CharField(max_length=500)
    """Sorted words with spaces between."""
    created_at_ms = models.BigIntegerField()
    expires_at_ms = models.BigIntegerField(null=True)
    revoked_at_ms = models.BigIntegerField(null=True)
    last_used_at_ms = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return self.name


class DeployToken(models.Model):
    """A token of no person. Where it is valid is written in `projects.DeployTokenGrant`."""

    name = models.CharField(max_length=255)
    username = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.CharField(max_length=500)
    creator = models.ForeignKey(User, models.SET_NULL, null=True)
    created_at_ms = models.BigIntegerField()
    expires_at_ms = models.BigIntegerField(null=True)
    revoked_at_ms = models.BigIntegerField(null=True)
    last_used_at_ms = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return self.name


class FailedSignIn(models.Model):
    """Failures from one address: one row each, whatever the number of failures."""

    address = models.CharField(max_length=64, primary_key=True)
    window_started_ms = models.BigIntegerField()
    failures = models.IntegerField()
    banned_until_ms = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return self.address
