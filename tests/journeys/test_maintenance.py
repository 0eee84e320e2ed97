"""Maintenance mode as administrators, users, strangers and excepted addresses meet it.

On loopback every address 127.x is this machine: 127.0.0.1 is a trusted proxy here, 127.0.0.9 a stranger.
"""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mainstay.foundation.clock import SYSTEM
from mainstay.ops.maintenance import switch
from mainstay.ops.maintenance.decisions import API_SENTENCE, CLOSED_SENTENCE, PUSH_SENTENCE
from mainstay.ops.maintenance.state import Mode
from mainstay.storage.database.sqlite import SqliteDatabase
from support.git_client import Done
from support.node import Node
from support.people import Person, person
from support.servers import wait_until

pytestmark = [pytest.mark.xdist_group("maintenance"), pytest.mark.timeout(240)]

STRANGER = "127.0.0.9"
MESSAGE = "new disks until ten"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Site:
    node: Node
    ada: Person
    root_token: str
    clone: Path

    def maintenance(self, *arguments: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.node.run("maintenance", *arguments, "--json").stdout)
        return said

    def decree(self, change: Callable[[SqliteDatabase], object]) -> None:
        """Change the mode without the command, which takes seconds on a slow machine."""
        database = SqliteDatabase(self.node.data / "mainstay.db")
        try:
            change(database)
        finally:
            database.close()

    def ask(
        self, method: str, path: str, body: str | None = None, *, source: str = "127.0.0.1", **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.node.http_port, timeout=60, source_address=(source, 0)
        )
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Content-Type": "application/json", **named})
            answer = connection.getresponse()
            lowered = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, lowered, answer.read().decode())
        finally:
            connection.close()

    def status(self) -> Answer:
        return self.ask("GET", "/status")

    def until_known(self, mode: str) -> None:
        """Wait until the node's own door says so."""

        def is_known() -> bool:
            return bool(self.status().json.get("maintenance_mode", "off") == mode)

        wait_until(is_known, timeout_s=20, what=f"mode {mode} at the door")

    def until_everybody_knows(self, mode: str) -> None:
        """Data, SSH and worker count themselves."""
        known = f'mainstay_maintenance_mode{{mode="{mode}"}} 3.0'
        wait_until(
            lambda: known in self.ask("GET", "/-/metrics").text, timeout_s=20, what=f"{mode} in all processes"
        )

    def until_everybody_knows_none(self) -> None:
        gone = [f'mainstay_maintenance_mode{{mode="{mode}"}} 0.0' for mode in ("read-only", "full", "hold")]

        def all_gone() -> bool:
            metrics = self.ask("GET", "/-/metrics").text
            return all(each in metrics for each in gone)

        wait_until(all_gone, timeout_s=20, what="nothing in force anywhere")

    def push(self, *, over: str) -> Done:
        self.ada.git.commit(self.clone, "file", f"{time.monotonic_ns()}")
        url = self.ada.url("ada/engine") if over == "http" else self.ada.ssh_url("ada/engine")
        return self.ada.git.try_("push", url, "HEAD:refs/heads/main", cwd=self.clone)

    def fetch(self, *, over: str) -> Done:
        url = self.ada.url("ada/engine") if over == "http" else self.ada.ssh_url("ada/engine")
        return self.ada.git.try_("ls-remote", url)


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("maintenance")
    environment = {
        "MAINSTAY_TRUSTED_PROXIES": "127.0.0.1",
        "MAINSTAY_MONITORING_ALLOWLIST": "127.0.0.1",
        "MAINSTAY_DATA_PROCESSES": "1",
    }
    with Node(place / "data", environment=environment) as node:
        ada = person(node, place / "ada", "ada")
        ada.project("engine")
        clone = ada.git.repository(place / "clone")
        made = Site(node, ada, node.token(), clone)
        assert made.push(over="http")
        yield made


@pytest.fixture
def site(whole_site: Site) -> Iterator[Site]:
    yield whole_site
    whole_site.decree(switch.release)
    whole_site.decree(partial(switch.turn_off, by="the test"))
    whole_site.until_everybody_knows_none()


def test_read_only_lets_people_look_and_fetch_and_nothing_else(site: Site) -> None:
    before = site.fetch(over="http").out
    said = site.maintenance("on", "--message", MESSAGE)
    assert (said["mode"], said["message"], said["queues"]["journal.catch_up"]["paused"]) == (
        "read-only",
        MESSAGE,
        False,
    )
    assert said["queues"]["repository.maintain"]["paused"] is True
    site.until_everybody_knows("read-only")
    overall = json.loads(site.node.run("status", "--json").stdout)
    assert (overall["verdict"], overall["maintenance"]) == ("ok", "read-only")
    for way in ("http", "ssh"):
        refused = site.push(over=way)
        assert not refused
        assert PUSH_SENTENCE in refused.err
        assert MESSAGE in refused.err
        assert site.fetch(over=way).out == before
    for method, path in (("POST", "projects"), ("PUT", "user"), ("DELETE", "projects/ada%2Fengine")):
        answer = site.ask(method, f"/api/v4/{path}", "{}", PRIVATE_TOKEN=site.ada.token)
        assert (answer.status, answer.json["message"]) == (503, API_SENTENCE)
        assert answer.headers["retry-after"] == "60"
    stranger = site.ask("POST", "/api/v4/projects", "{}", source=STRANGER)
    assert (stranger.status, stranger.json["message"]) == (503, API_SENTENCE)
    assert site.ada.must("GET", "projects/ada%2Fengine")["path"] == "engine"
    assert "Git that stays up" in site.ask("GET", "/").text
    assert MESSAGE in site.ask("GET", "/").text
    assert (site.status().status, site.status().json["maintenance"]) == (200, True)
    assert site.ask("GET", "/-/readiness").json["maintenance"] == "read-only"
    metrics = site.ask("GET", "/-/metrics").text
    assert 'mainstay_maintenance_refusals_total{deed="push"}' in metrics
    site.maintenance("off")
    site.until_everybody_knows_none()
    assert site.push(over="http")
    assert site.push(over="ssh")


def test_full_is_closed_but_for_the_excepted_whom_nobody_can_play(site: Site) -> None:
    site.maintenance("on", "--mode", "full", "--message", MESSAGE, "--allow", "127.0.0.1")
    site.until_everybody_knows("full")
    assert site.status().status == 503
    assert site.ask("GET", "/-/readiness").status == 200
    assert site.ask("GET", "/-/health").text == "Mainstay OK"
    page = site.ask("GET", "/ada/engine", source=STRANGER, Accept="text/html")
    assert (page.status, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert MESSAGE in page.text
    told = site.ask("GET", "/api/v4/projects/ada%2Fengine", source=STRANGER, PRIVATE_TOKEN=site.ada.token)
    assert (told.status, told.json["maintenance"]["mode"]) == (503, "full")
    refs = site.ask("GET", "/ada/engine.git/info/refs?service=git-upload-pack", source=STRANGER)
    assert (refs.status, refs.text.splitlines()) == (503, [CLOSED_SENTENCE, MESSAGE])
    liar = {
        "X_Forwarded_For": "127.0.0.1",
        "X_Real_IP": "127.0.0.1",
        "X_Mainstay_Client_Address": "127.0.0.1",
    }
    assert site.ask("GET", "/ada/engine", source=STRANGER, **liar).status == 503
    # Excepted, and not so when its own proxy says that somebody else asks.
    assert site.push(over="http")
    assert site.push(over="ssh")
    assert site.ada.api("PUT", "projects/ada%2Fengine", {"description": "here"}).status == 200
    assert site.ask("GET", "/", X_Forwarded_For="203.0.113.9").status == 503
    # On again without exceptions: none are left. The way out is at the machine, and by API.
    site.decree(partial(switch.turn_on, mode=Mode.FULL, by="the test"))
    wait_until(lambda: not site.fetch(over="http"), timeout_s=20, what="nobody is excepted any more")
    wait_until(lambda: not site.fetch(over="ssh"), timeout_s=20, what="the same over SSH")
    closed = site.fetch(over="ssh")
    assert not closed
    assert CLOSED_SENTENCE in closed.err
    assert site.ask("GET", "/api/v4/maintenance").json["mode"] == "full"
    refused = site.ask(
        "PUT", "/api/v4/application/settings?maintenance_mode=false", PRIVATE_TOKEN=site.ada.token
    )
    assert refused.status == 403
    opened = site.ask(
        "PUT", "/api/v4/application/settings?maintenance_mode=false", PRIVATE_TOKEN=site.root_token
    )
    assert (opened.status, opened.json["maintenance_mode"]) == (200, False)
    site.until_everybody_knows_none()
    assert site.fetch(over="ssh")


def test_the_api_is_gitlabs(site: Site) -> None:
    path, token = "/api/v4/application/settings", {"PRIVATE_TOKEN": site.root_token}
    assert site.ask("GET", path, **token).json["maintenance_mode"] is False
    assert site.ask("GET", path, PRIVATE_TOKEN=site.ada.token).status == 403
    assert site.ask("GET", path).status == 401
    wanted = json.dumps(
        {"maintenance_mode": True, "maintenance_mode_message": MESSAGE, "signup_enabled": True}
    )
    answer = site.ask("PUT", path, wanted, **token)
    assert (answer.status, answer.json) == (
        200,
        {"maintenance_mode": True, "maintenance_mode_message": MESSAGE},
    )
    site.until_known("read-only")
    assert site.maintenance("status")["by"] == "user:1"
    bad = site.ask("PUT", path, json.dumps({"maintenance_mode_message": "a\nb"}), **token)
    assert (bad.status, "maintenance_mode_message" in bad.json["message"]) == (400, True)
    changed = site.ask("PUT", f"{path}?maintenance_mode=true&maintenance_mode_message=soon", **token)
    assert changed.json == {"maintenance_mode": True, "maintenance_mode_message": "soon"}
    off = site.ask("PUT", f"{path}?maintenance_mode=false", **token)
    assert off.json == {"maintenance_mode": False, "maintenance_mode_message": "soon"}


def test_what_is_scheduled_is_announced_and_begins_by_itself(site: Site) -> None:
    said = site.maintenance("on", "--mode", "full", "--at", "+1h", "--message", MESSAGE)
    assert (said["mode"], said["scheduled"], said["queues"]["storage.sweep"]["paused"]) == (
        "off",
        "full",
        False,
    )

    def banner() -> dict[str, Any] | None:
        told = site.ask("GET", "/").headers.get("x-mainstay-maintenance")
        return None if told is None else json.loads(told)

    wait_until(lambda: banner() is not None, timeout_s=20, what="the banner")
    assert banner() == {**site.ask("GET", "/api/v4/maintenance").json["banner"]}
    assert "this site is closed for maintenance" in site.ask("GET", "/").text
    assert site.push(over="http")
    at_ms = SYSTEM.now_ms() + 2_000
    site.decree(partial(switch.turn_on, mode=Mode.READ_ONLY, by="the test", at_ms=at_ms))
    site.until_known("read-only")
    assert SYSTEM.now_ms() >= at_ms
    late = site.node.run("maintenance", "on", "--at", "2020-01-01T00:00Z", check=False)
    assert (late.returncode, "past" in late.stderr) == (2, True)


def test_pushes_wait_for_a_planned_failover_and_lose_nothing(site: Site) -> None:
    site.decree(switch.hold)
    site.until_everybody_knows("hold")
    done: list[Any] = []
    pushing = threading.Thread(target=lambda: done.append(site.push(over="http")))
    writing = threading.Thread(
        target=lambda: done.append(site.ada.api("PUT", "projects/ada%2Fengine", {"description": "y"}))
    )
    pushing.start()
    writing.start()
    waiting = "mainstay_maintenance_waiting_requests 2.0"
    wait_until(lambda: waiting in site.ask("GET", "/-/metrics").text, timeout_s=20, what="two that wait")
    assert site.fetch(over="ssh")
    assert done == []
    site.decree(switch.release)
    pushing.join(30)
    writing.join(30)
    assert sorted(getattr(each, "status", 0) or each.code for each in done) == [0, 200]


def test_a_push_over_ssh_waits_too_and_is_refused_when_it_takes_too_long(site: Site) -> None:
    site.decree(lambda database: switch.hold(database, for_s=3))
    site.until_everybody_knows("hold")
    refused = site.push(over="ssh")
    assert not refused
    assert "takes longer than it should" in refused.err
    assert site.maintenance("status")["hold_until"] is not None
