"""The product on a database of a test's own: Django pointed at it in this process, builders for its things.

from support.product import on_memory, on_url
"""

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mainstay.access.actors import Actor
from mainstay.boot import setup_django
from mainstay.product.accounts.settings import AccountsSettings

QUICK = AccountsSettings(argon2_passes=1, argon2_memory_kib=64)
"""Hashes that cost a test nothing."""

PASSWORD = "correct horse battery"


@contextmanager
def on_url(url: str) -> Iterator[None]:
    """Point Django's connection at `url` (`sqlite:///PATH`, `postgresql://…`) for the length of the block."""
    setup_django()
    from django.db import connections

    from mainstay.boot import django_settings

    with mock.patch.dict("os.environ", {"MAINSTAY_DATABASE_URL": url}):
        entry = connections.configure_settings({"default": django_settings._database()})["default"]
    outer, outer_entry = connections["default"], connections.settings["default"]
    connections.settings["default"] = entry
    del connections["default"]
    try:
        yield
    finally:
        connections["default"].close()
        connections.settings["default"] = outer_entry
        connections["default"] = outer
        if url.startswith("postgresql"):
            from mainstay.storage.database.postgresql import forget

            forget(url)


@contextmanager
def on_memory() -> Iterator[None]:
    """Point Django at an SQLite database in memory with today's schema and nothing in it."""
    with on_url("sqlite://:memory:"):
        from django.db import connection

        connection.ensure_connection()
        connection.connection.deserialize(_schema())
        yield
        # Django keeps a memory database open through close(); the next test starts from its own.
        connection.connection.close()
        connection.connection = None


@contextmanager
def on_file(directory: Path) -> Iterator[str]:
    """A data directory whose `mainstay.db` has today's schema; gives the URL, and Django is pointed at it."""
    path = directory / "mainstay.db"
    with on_memory():
        pass  # the schema is made on a memory database
    target = sqlite3.connect(path)
    source = sqlite3.connect(":memory:")
    source.deserialize(_schema())
    source.backup(target)
    source.close()
    target.close()
    with on_url(f"sqlite://{path}"):
        yield f"sqlite://{path}"


@lru_cache(maxsize=1)
def _schema() -> bytes:
    """A migrated, empty database, as bytes."""
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    return bytes(connection.connection.serialize())


def make_user(username: str = "ada", *, password: str | None = None, is_admin: bool = False):
    from mainstay.product.accounts.services import create_user

    return create_user(
        username=username,
        email=f"{username}@example.org",
        password=password,
        is_admin=is_admin,
        settings=QUICK,
    )


def acting(user) -> Actor:
    from mainstay.product.accounts.lookup import actor_of

    return actor_of(user)


def make_project(path: str = "engine", *, owner=None, namespace=None, **fields):
    """A private project of `owner`, or in `namespace`."""
    from mainstay.access.actors import SYSTEM
    from mainstay.product.projects.services import create_project

    by = acting(owner) if owner is not None else SYSTEM
    return create_project(namespace or owner.namespace, path=path, by=by, creator=owner, **fields)


def make_group(path: str = "acme", *, owner, **fields):
    from mainstay.product.projects.groups import create_group

    return create_group(path=path, creator=owner, **fields)


# Public keys


def public_key(kind: str = "ed25519", *, comment: str = "") -> str:
    """A fresh public key in OpenSSH's form: `ed25519`, `ecdsa256`, `rsa2048`, `rsa1024`…"""
    private = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ecdsa256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ecdsa384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ecdsa521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
        "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    }[kind]()
    line = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return f"{line.decode()} {comment}".strip()


def security_key() -> str:
    """A public key as a FIDO token gives it: `sk-ssh-ed25519@openssh.com`."""
    kind = b"sk-ssh-ed25519@openssh.com"
    point = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    blob = b"".join(len(part).to_bytes(4) + part for part in (kind, point, b"ssh:"))
    return f"{kind.decode()} {base64.b64encode(blob).decode()}"
