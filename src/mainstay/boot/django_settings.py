"""Django's settings, made from ours: tables, migrations, web and API."""

from typing import Any
from urllib.parse import unquote, urlsplit

from mainstay.foundation.settings import data_directory, from_environment


def _database() -> dict[str, Any]:
    url = from_environment("DATABASE_URL")
    if url and url.startswith(("postgresql:", "postgres:")):
        parts = urlsplit(url)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": parts.hostname or "",
            "PORT": str(parts.port or ""),
        }
    path = unquote(url.removeprefix("sqlite://")) if url else str(data_directory() / "mainstay.db")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }


DATABASES = {"default": _database()}
SECRET_KEY = from_environment("SECRET_KEY") or "only for commands that sign nothing"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "mainstay.storage.ledger",
    "mainstay.jobs",
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
