"""Django's settings, made from ours: tables, migrations, web and API."""

from typing import Any
from urllib.parse import unquote

from mainstay.foundation.settings import data_directory, from_environment

_KEPT = {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
"""A thread keeps its connection from request to request, and asks before a request whether it still lives."""


def database_from(url: str) -> dict[str, Any]:
    """The database that `url` means, as Django wants to be told; empty: the one in the data directory."""
    if url.startswith(("postgresql:", "postgres:")):
        return {**_postgresql(url), **_KEPT}
    path = unquote(url.removeprefix("sqlite://")) if url else str(data_directory() / "mainstay.db")
    return {
        "ENGINE": "mainstay.storage.database.sqlite_orm",
        "NAME": path,
        "FENCE": str(data_directory()),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
        **_KEPT,
    }


def _postgresql(url: str) -> dict[str, Any]:
    """Lists of hosts and ports, certificates, time limits: whatever libpq knows passes through."""
    # A driver that only its users pay for.
    from mainstay.storage.database.dialing import connection_arguments  # noqa: PLC0415 - as said

    options = connection_arguments(url)
    return {
        "ENGINE": "mainstay.storage.database.orm",
        "URL": url,
        "FENCE": str(data_directory()),
        "NAME": options.pop("dbname", ""),
        "USER": options.pop("user", ""),
        "PASSWORD": options.pop("password", ""),
        "HOST": options.pop("host", ""),
        "PORT": options.pop("port", ""),
        "OPTIONS": options,
        # They would outlive their transaction, which a pooler in between does not allow.
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }


def _database() -> dict[str, Any]:
    return database_from(from_environment("DATABASE_URL") or "")


DATABASES = {"default": _database()}
SECRET_KEY = from_environment("SECRET_KEY") or "only for commands that sign nothing"
DEBUG = False
ALLOWED_HOSTS = ["*"]
"""Any: the name only goes into links of the answer to the very client that sent it, and only while no
external URL is set. Nothing is sent by mail, cached for others or decided by it."""
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "mainstay.storage.ledger",
    "mainstay.jobs",
    "mainstay.cluster",
    "mainstay.product.accounts",
    "mainstay.product.projects",
    "mainstay.ops.instance",
    "rest_framework",
]
MIDDLEWARE = ["mainstay.doors.web.headers.with_safety", "django.middleware.common.CommonMiddleware"]
APPEND_SLASH = False
DATA_UPLOAD_MAX_MEMORY_SIZE = 20 * 1024 * 1024
"""The largest body of an API request."""
USE_I18N = False
LOGGING_CONFIG = None
"""Lines take the shape that `foundation.logs` gave them."""
ROOT_URLCONF = "mainstay.boot.urls"
