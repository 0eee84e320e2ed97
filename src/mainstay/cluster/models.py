"""The tables of the cluster, as Django needs them for migrations. All reads and writes are plain SQL."""
# ruff: noqa: DJ008 - tables for plain SQL: nobody prints a row

from django.db import models


class Node(models.Model):
    """One node that has started at least once and was not forgotten since."""

    id = models.CharField(primary_key=True, max_length=26)
    """ULID, kept in the data directory: the same over restarts."""
    name = models.CharField(max_length=255)
    http = models.CharField(max_length=255)
    """HOST:PORT at which other nodes reach it; likewise `ssh`, `rpc` and `health`. Empty: it has none."""
    ssh = models.CharField(max_length=255)
    rpc = models.CharField(max_length=255)
    health = models.CharField(max_length=255)
    roles = models.CharField(max_length=64)
    """With commas between: web,git,ssh,worker."""
    labels = models.CharField(max_length=255)
    """Placement labels with commas between."""
    version = models.CharField(max_length=64)
    state = models.CharField(max_length=16)
    """starting, ready, draining or stopped, as the node itself last said."""
    started_ms = models.BigIntegerField()
    beat_ms = models.BigIntegerField()
    """When it last said so, by the clock of the database."""
    lag_ms = models.BigIntegerField(default=0)
    """How long its last heartbeat took until it was committed."""
    skew_ms = models.BigIntegerField(default=0)
    """Its clock minus the clock of the database."""
    drain_asked_ms = models.BigIntegerField(default=0)
    """When somebody asked it to drain; 0: nobody since its start."""
    facts = models.TextField(default="{}")
    """JSON: what `status` and `doctor` show and compare, such as processes, disk, fingerprints."""

    class Meta:
        db_table = "cluster_node"


class JoinToken(models.Model):
    """Lets one machine in, once. The token itself is never kept."""

    id = models.CharField(primary_key=True, max_length=26)
    verifier = models.CharField(max_length=64)
    """sha256 of what the joining machine proves, lower-case hex."""
    wrapping = models.TextField()
    """The key that the answer is wrapped with, itself wrapped by the key ring."""
    created_by = models.CharField(max_length=64)
    created_ms = models.BigIntegerField()
    expires_ms = models.BigIntegerField()
    used_ms = models.BigIntegerField(default=0)
    used_from = models.CharField(max_length=64, default="")
    kind = models.CharField(max_length=8, default="node", db_default="node")
    """node or replica: what may join by it."""

    class Meta:
        db_table = "cluster_join_token"


class Secret(models.Model):
    """One shared secret, wrapped by the key ring."""

    name = models.CharField(primary_key=True, max_length=128)
    wrapped = models.TextField()
    key_id = models.CharField(max_length=64)
    """Which master key wraps it."""
    created_ms = models.BigIntegerField()

    class Meta:
        db_table = "cluster_secret"


class Lease(models.Model):
    """One row per life of a PostgreSQL server that somebody has waited for, see `storage.database.lease`."""

    id = models.CharField(primary_key=True, max_length=64)
    beat_ms = models.BigIntegerField()

    class Meta:
        db_table = "cluster_lease"


class SchemaFloor(models.Model):
    """Which release of the program may still run on the tables; one row."""

    id = models.IntegerField(primary_key=True)
    release = models.IntegerField()
    """Programs of an older schema release must not start any more."""
    current = models.IntegerField()
    """The schema release that the tables have."""

    class Meta:
        db_table = "cluster_schema_floor"


class Placement(models.Model):
    """A repository that asks for git nodes of a label."""

    repository_id = models.BigIntegerField(primary_key=True)
    label = models.CharField(max_length=63)

    class Meta:
        db_table = "cluster_placement"


class Epoch(models.Model):
    """Whose this database is, see `cluster.epochs`; one row, and none before there are sites."""

    id = models.IntegerField(primary_key=True)
    epoch = models.BigIntegerField()
    site_id = models.CharField(max_length=26)
    """ULID of the primary site."""
    site_name = models.CharField(max_length=255)
    site_url = models.CharField(max_length=2048)
    """Where people push while this site is the primary."""
    since_ms = models.BigIntegerField()

    class Meta:
        db_table = "cluster_epoch"


class Site(models.Model):
    """One whole copy of the instance, see `cluster.sites.registry`; the primary has a row, too."""

    id = models.CharField(primary_key=True, max_length=26)
    """ULID, kept in the site's `site.json`."""
    name = models.CharField(max_length=63, unique=True)
    kind = models.CharField(max_length=8)
    """replica or cache."""
    mode = models.CharField(max_length=8)
    """sync or async."""
    delay_s = models.IntegerField()
    """How much later it applies what happens; 0: at once."""
    patterns = models.TextField()
    """JSON: which repositories a cache holds in advance."""
    sites_address = models.CharField(max_length=255)
    """HOST:PORT of the line between sites there; empty: it is not reached."""
    database_address = models.CharField(max_length=255)
    """HOST:PORT of its database for others that follow it."""
    url = models.CharField(max_length=2048)
    """Where people reach it."""
    state = models.CharField(max_length=8)
    """active, paused or removed."""
    added_ms = models.BigIntegerField()
    feed = models.CharField(max_length=26)
    """Of which feed it has acknowledged `position`; empty: none yet."""
    position = models.BigIntegerField()
    acknowledged_ms = models.BigIntegerField()

    class Meta:
        db_table = "cluster_site"


class SiteCertificate(models.Model):
    """Who may speak as which site on the line between sites."""

    serial = models.CharField(primary_key=True, max_length=40)
    """Lower-case hex."""
    site_id = models.CharField(max_length=26, db_index=True)
    issued_ms = models.BigIntegerField()
    expires_ms = models.BigIntegerField()
    revoked_ms = models.BigIntegerField()
    """0: it is good."""

    class Meta:
        db_table = "cluster_site_certificate"
