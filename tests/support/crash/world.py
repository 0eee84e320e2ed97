"""One instance under test: its data directory, its database and object store, and its processes one by one.

`start` runs the data plane or the SSH process alone, because a push needs no other. Before each start the
leftovers of dead processes are wiped, as `mainstay serve` does.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from mainstay.boot.layout import Layout, make_directories, wipe_leftovers
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.storage.database import Database
from mainstay.storage.database.opening import open_database
from mainstay.storage.ledger import Ledger
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects import ObjectStore
from mainstay.storage.objects.opening import open_object_store
from support.crash.history import History
from support.crash.nursery import Child, Nursery
from support.crash.pushers import HttpPusher, Pusher, SshPusher

Transport = Literal["http", "ssh"]


@dataclass(frozen=True)
class Truth:
    """The stores, opened for a look."""

    database: Database
    ledger: Ledger
    objects: ObjectStore


@dataclass
class World:
    """An instance with a user `root`, a token and a key. One process of it runs at a time."""

    nursery: Nursery
    data: Path
    transport: Transport
    environment: Mapping[str, str]
    """`MAINSTAY_…` and credentials of the object store."""
    key: Path
    token: str = ""
    child: Child | None = None
    projects: int = 0

    @property
    def layout(self) -> Layout:
        return Layout(self.data)

    def prepare(self) -> None:
        """Make the instance."""
        make_directories(self.layout)
        answer = self.data / "token"
        public = self.key.with_suffix(".pub").read_text()
        for program in (("prepare",), ("seed", public, str(answer))):
            code = self.nursery.run(program[0], self.environment, *program[1:])
            assert code == 0, f"{program[0]}: {code}\n{self.nursery.log_end()}"
        self.token = answer.read_text()

    def start(self, *, failpoints: str = "", broken: str = "") -> Child:
        """Start the process that serves, after whatever ran before is dead."""
        self.kill()
        wipe_leftovers(self.layout)
        extra = {"MAINSTAY_FAILPOINTS": failpoints, "MAINSTAY_CRASH_BROKEN": broken}
        program = "data_plane" if self.transport == "http" else "ssh"
        self.child = self.nursery.start(program, {**self.environment, **extra})
        return self.child

    def running(self) -> Child:
        """The process, started if nothing runs."""
        return self.child or self.start()

    def kill(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child = None

    def has_died(self, *, within_s: float) -> bool:
        """Whether the process is dead, by itself or by a failpoint, which may take a moment."""
        return self.child is None or self.child.has_died(within_s=within_s)

    def empty_cache(self) -> None:
        shutil.rmtree(self.layout.cache, ignore_errors=True)

    def new_project(self) -> History:
        """A path where nothing is yet: the first push makes the project."""
        self.projects += 1
        return History(f"root/project-{self.projects}")

    def url(self, path: str) -> str:
        port = self.running().port
        if self.transport == "ssh":
            return f"ssh://git@127.0.0.1:{port}/{path}.git"
        return f"http://root:{self.token}@127.0.0.1:{port}/{path}.git"

    def pusher(self, path: str) -> Pusher:
        port = self.running().port
        if self.transport == "ssh":
            return SshPusher(f"ssh://git@127.0.0.1:{port}/{path}.git", "git", str(self.key))
        return HttpPusher(f"http://127.0.0.1:{port}/{path}.git", "root", self.token)

    @contextlib.contextmanager
    def opened(self, clock: Clock = SYSTEM) -> Iterator[Truth]:
        """The truth itself, past all processes."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            objects = open_object_store(
                self.environment.get("MAINSTAY_OBJECT_STORE") or str(self.data / "objects"), clock=clock
            )
        url = self.environment.get("MAINSTAY_DATABASE_URL") or f"sqlite://{self.data}/mainstay.db"
        database = open_database(url)
        try:
            yield Truth(database, SqlLedger(database, clock), objects)
        finally:
            database.close()

    def fsck(self) -> dict[str, Any]:
        """What `mainstay fsck` says, run as an operator would run it beside the node."""
        done = subprocess.run(
            [sys.executable, "-m", "mainstay", "fsck", "--json"],
            env={"PATH": os.environ["PATH"], **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return {"sound": answer["sound"] and done.returncode == 0, "findings": answer["findings"]}


def repository_id(truth: Truth, path: str) -> int | None:
    """The repository of the project at `path`, None when there is none."""
    after_id = 0
    while page := truth.ledger.repositories(after_id=after_id):
        for each in page:
            if each.identity.get("full_path") == path:
                return each.id
        after_id = page[-1].id
    return None
