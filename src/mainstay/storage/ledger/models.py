"""The ledger's tables, as Django needs them for migrations. All reads and writes are plain SQL beside this.

Big tables (refs and their changes) carry no foreign keys: a push of 100,000 refs would check the same
repository 100,000 times, and `check` compares them with the log anyway.
"""
# ruff: noqa: DJ001, DJ008, RUF012 - tables for plain SQL: null is a fact there, and nobody prints a row

from django.db import models


class Repository(models.Model):
    id = models.BigAutoField(primary_key=True)
    uid = models.CharField(max_length=26, unique=True)
    network_id = models.BigIntegerField(db_index=True)
    object_format = models.CharField(max_length=16)
    head = models.BinaryField()
    version = models.BigIntegerField()
    manifest_version = models.BigIntegerField()
    prune_epoch = models.BigIntegerField(default=0)
    write_state = models.CharField(max_length=16)
    identity = models.TextField()
    hash = models.CharField(max_length=64)
    """Chain hash of the last change."""

    class Meta:
        db_table = "ledger_repository"


class Ref(models.Model):
    pk = models.CompositePrimaryKey("repository_id", "name")
    repository_id = models.BigIntegerField()
    name = models.BinaryField()
    oid = models.BinaryField()
    peeled = models.BinaryField(null=True)

    class Meta:
        db_table = "ledger_ref"


class Change(models.Model):
    """One row per version of a repository."""

    pk = models.CompositePrimaryKey("repository_id", "version")
    repository_id = models.BigIntegerField()
    version = models.BigIntegerField()
    uid = models.CharField(max_length=26)
    kind = models.CharField(max_length=16)
    push_id = models.CharField(max_length=64, null=True, unique=True)
    actor = models.TextField()
    at_ms = models.BigIntegerField()
    packs_added = models.TextField()
    packs_removed = models.TextField()
    head = models.BinaryField(null=True)
    identity = models.TextField(null=True)
    details = models.TextField()
    hash = models.CharField(max_length=64)
    previous_hash = models.CharField(max_length=64)
    journaled = models.BooleanField(default=False)

    class Meta:
        db_table = "ledger_change"
        indexes = [
            models.Index(
                fields=["at_ms", "repository_id", "version"],
                name="ledger_change_unjournaled",
                condition=models.Q(journaled=False),
            )
        ]


class RefChange(models.Model):
    """One ref moved by one change; null means absent."""

    pk = models.CompositePrimaryKey("repository_id", "version", "name")
    repository_id = models.BigIntegerField()
    version = models.BigIntegerField()
    name = models.BinaryField()
    old_oid = models.BinaryField(null=True)
    new_oid = models.BinaryField(null=True)
    peeled = models.BinaryField(null=True)

    class Meta:
        db_table = "ledger_ref_change"
        indexes = [
            models.Index(fields=["repository_id", "name", "version"], name="ledger_ref_change_history")
        ]


class Pack(models.Model):
    id = models.CharField(max_length=26, primary_key=True)
    key = models.CharField(max_length=255, unique=True)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    objects_count = models.BigIntegerField()
    kind = models.CharField(max_length=16)
    sealed = models.BooleanField(default=False)
    artefacts = models.CharField(max_length=255)
    """Names joined by blanks."""
    doomed_at_ms = models.BigIntegerField(null=True)

    class Meta:
        db_table = "ledger_pack"
        indexes = [
            models.Index(
                fields=["doomed_at_ms"],
                name="ledger_pack_doomed",
                condition=models.Q(doomed_at_ms__isnull=False),
            )
        ]


class RepositoryPack(models.Model):
    """The manifest. Its foreign keys keep a pack that is named here from being forgotten."""

    pk = models.CompositePrimaryKey("repository_id", "pack_id")
    repository = models.ForeignKey(Repository, on_delete=models.DO_NOTHING, db_index=False)
    pack = models.ForeignKey(Pack, on_delete=models.DO_NOTHING)
    added_version = models.BigIntegerField()

    class Meta:
        db_table = "ledger_repository_pack"


class UploadIntent(models.Model):
    id = models.CharField(max_length=26, primary_key=True)
    repository_id = models.BigIntegerField()
    keys = models.TextField()
    expires_ms = models.BigIntegerField(db_index=True)
    claimed = models.BooleanField(default=False)

    class Meta:
        db_table = "ledger_upload_intent"


class Event(models.Model):
    """The outbox. A delivered event is a deleted row."""

    id = models.BigAutoField(primary_key=True)
    topic = models.CharField(max_length=64)
    payload = models.TextField()
    at_ms = models.BigIntegerField()
    attempts = models.IntegerField(default=0)
    lease_owner = models.CharField(max_length=128, null=True)
    due_ms = models.BigIntegerField()
    """When it may be taken next: its birth, or the end of its lease."""

    class Meta:
        db_table = "ledger_event"
        indexes = [models.Index(fields=["due_ms", "id"], name="ledger_event_due")]
