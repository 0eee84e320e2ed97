"""The table of jobs, as Django needs it for migrations. All reads and writes are plain SQL in `queue`."""
# ruff: noqa: DJ001, DJ008, RUF012 - tables for plain SQL: null is a fact there, and nobody prints a row

from django.db import models


class Job(models.Model):
    """A job that is done is a deleted row; one that failed too often stays, dead, until somebody looks."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=128)
    payload = models.TextField()
    unique_key = models.CharField(max_length=255, null=True, unique=True)
    due_ms = models.BigIntegerField()
    """When it may be taken next: its start, or the end of its lease."""
    attempts = models.IntegerField(default=0)
    max_attempts = models.IntegerField()
    lease_owner = models.CharField(max_length=128, null=True)
    again = models.BooleanField(default=False)
    """It was asked for once more while it ran."""
    every_ms = models.BigIntegerField(null=True)
    """For a periodic job: from one end to the next start."""
    dead = models.BooleanField(default=False)
    last_error = models.TextField(default="")

    class Meta:
        db_table = "jobs_job"
        indexes = [models.Index(fields=["due_ms", "id"], name="jobs_job_due", condition=models.Q(dead=False))]
