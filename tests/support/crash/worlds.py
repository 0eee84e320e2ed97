"""Instances by storage and transport. `MAINSTAY_CRASH=all` (as `make crash` sets it) runs every point."""

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, get_args

import asyncssh
import pytest

from mainstay.boot.layout import make_directories
from support.crash.nursery import Nursery
from support.crash.world import Transport, World

ALL = os.environ.get("MAINSTAY_CRASH") == "all"
STORAGES = {"sqlite-directory": "directory", "postgresql-s3": "s3"}
"""What an instance stands on, and the kind of its object store."""


def everywhere(points_of: Callable[[str], Sequence[str]] | None = None) -> Collection[Any]:
    """Parameters `storage, transport[, point]`; what shares an instance stays in one test process.

    In a short run each storage takes each point over one transport only, in turns.
    """
    cases = []
    for storage, kind in STORAGES.items():
        for turn, transport in enumerate(get_args(Transport)):
            points = [(point,) for point in points_of(kind)] if points_of else [()]
            taken = points if ALL or not points_of else points[turn::2]
            cases += [_case(storage, transport, *point) for point in taken]
    return cases


def _case(storage: str, transport: Transport, *point: str) -> Any:
    return pytest.param(
        storage,
        transport,
        *point,
        marks=in_group(storage, transport),
        id="-".join([storage, transport, *point]),
    )


def in_group(storage: str, transport: Transport) -> pytest.MarkDecorator:
    return pytest.mark.xdist_group(f"{storage}-{transport}")


class Worlds:
    """Instances by storage and transport, each made when it is first asked for."""

    def __init__(self, request: pytest.FixtureRequest, nursery: Nursery, directory: Path) -> None:
        self._request = request
        self._nursery = nursery
        self._directory = directory
        self._made: dict[tuple[str, Transport], World] = {}
        self._count = 0

    def get(self, storage: str, transport: Transport) -> World:
        found = self._made.get((storage, transport))
        return found or self._made.setdefault((storage, transport), self.make(storage, transport))

    def make_two(self, storage: str, transport: Transport) -> tuple[World, World]:
        """Two nodes that are one cluster."""
        first = self.make(storage, transport)
        return first, self.beside(first, f"{first.data.name}-beside")

    def make(self, storage: str, transport: Transport) -> World:
        """A new instance of its own."""
        self._count += 1
        name = f"{storage}-{transport}-{self._count}"
        data = self._directory / name
        environment = {"MAINSTAY_DATA": str(data), "MAINSTAY_LOG_FORMAT": "json"}
        if storage == "postgresql-s3":
            environment |= self._shared_database() | self._shared_objects(name)
        elif storage == "postgresql-directory":
            environment |= self._shared_database()
            environment["MAINSTAY_OBJECT_STORE"] = str(self._directory / f"{name}-objects")
        return self._prepared(data, transport, environment)

    def on_database(self, name: str, url: str) -> World:
        """A new instance on a database of the caller's, and objects beside it; over HTTP."""
        data = self._directory / name
        environment = {
            "MAINSTAY_DATA": str(data),
            "MAINSTAY_LOG_FORMAT": "json",
            "MAINSTAY_DATABASE_URL": url,
            "MAINSTAY_OBJECT_STORE": str(self._directory / f"{name}-objects"),
        }
        return self._prepared(data, "http", environment)

    def beside(self, first: World, name: str, **environment: str) -> World:
        """Another node of its cluster, with a disk of its own."""
        data = self._directory / name
        told = {**first.environment, "MAINSTAY_DATA": str(data), **environment}
        second = World(self._nursery, data, first.transport, told, first.key, token=first.token)
        shutil.copytree(first.layout.data / "keys", data / "keys")
        make_directories(second.layout)
        return second

    def _prepared(self, data: Path, transport: Transport, environment: dict[str, str]) -> World:
        world = World(self._nursery, data, transport, environment, self._key())
        world.prepare()
        return world

    def end(self) -> None:
        for world in self._made.values():
            world.kill()

    def _shared_database(self) -> dict[str, str]:
        postgres = self._request.getfixturevalue("postgres_server")
        return {"MAINSTAY_DATABASE_URL": postgres.url(postgres.create_database())}

    def _shared_objects(self, name: str) -> dict[str, str]:
        s3 = self._request.getfixturevalue("moto")
        return {"MAINSTAY_OBJECT_STORE": s3.url(name), **s3.environment}

    def _key(self) -> Path:
        path = self._directory / "id_ed25519"
        if not path.exists():
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(str(path))
            path.chmod(0o600)
            key.write_public_key(str(path.with_suffix(".pub")))
        return path
