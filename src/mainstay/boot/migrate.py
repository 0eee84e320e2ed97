"""Bring the tables to what this program needs. Safe to run twice, and on many nodes at the same time.

One at a time does the work: a file lock for SQLite (which lives on one machine), an advisory lock of the
database for PostgreSQL. Who comes second finds nothing left to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import mainstay
from mainstay.boot.locks import file_lock
from mainstay.foundation.settings import data_directory

_LOCK_NUMBER = 0x6D61696E73746179
"""`mainstay` in ASCII: any number will do as long as nobody else takes it."""


def fingerprint() -> str:
    """Changes whenever there may be something to migrate. Cheap: Django is not imported for it."""
    from django import VERSION  # noqa: PLC0415 - only the number

    house = Path(mainstay.__file__).parent
    settings = (house / "boot" / "django_settings.py").read_bytes()
    names = sorted(str(file.relative_to(house)) for file in house.glob("**/migrations/*.py"))
    facts = "\n".join([mainstay.__version__, str(VERSION), *names]).encode()
    return sha256(facts + settings).hexdigest()


@contextmanager
def migration_lock() -> Iterator[None]:
    """Hold the lock of the database that Django is set up for."""
    from django.db import connection  # noqa: PLC0415 - needs `setup_django` first

    if connection.vendor == "sqlite":
        with file_lock(data_directory() / "run" / "migrate.lock"):
            yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK_NUMBER])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK_NUMBER])


def migrate() -> None:
    """Apply what is missing. Call within `migration_lock`."""
    from django.core.management import call_command  # noqa: PLC0415 - needs `setup_django` first

    call_command("migrate", interactive=False, verbosity=0)
