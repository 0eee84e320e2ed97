"""What every witness promises: in memory, on a shelf, as a process over HTTP, as an object in a bucket."""

import http.client
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.cluster.witness import BadRecord, Overtaken, Record, Seen, Witness, WitnessAway
from mainstay.cluster.witness.bucket import KEY, BucketWitness
from mainstay.cluster.witness.memory import MemoryWitness
from mainstay.cluster.witness.process import PATH, BadWitnessUrl, ProcessWitness
from mainstay.cluster.witness.shelf import RECORD_FILE, InUse, ShelfWitness, only_user
from mainstay.foundation.logs import Secret
from mainstay.storage.objects.register import MemoryRegister, NoConditions, open_register
from support.certificates import make_certificate
from support.ports import free_port
from support.s3 import SERVERS, RunningServers
from support.servers import end, is_listening, wait_until

pytestmark = pytest.mark.xdist_group("s3")
"""All in one worker: the strict server takes a quarter of a minute to start."""

RECORD = Record(epoch=3, primary="PARIS", name="paris", standby="BERLIN", position=70)
KINDS = ["memory", "shelf", "process", "bucket-memory", *(f"bucket-{name}" for name in SERVERS)]


class Server:
    """`mainstay witness serve`, which may be killed and started again."""

    def __init__(self, data: Path, *more: str) -> None:
        self.data = data
        self.port = free_port()
        self._more = more
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mainstay", "witness", "serve"]
        command += ["--listen", f"127.0.0.1:{self.port}", "--data", str(self.data), *self._more]
        self.process = process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(
            lambda: is_listening(self.port),
            timeout_s=60,
            what="start of the witness",
            still_possible=lambda: process.poll() is None,
        )

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)

    @property
    def token(self) -> Secret:
        return Secret((self.data / "token").read_text().strip())

    def witness(self) -> ProcessWitness:
        return ProcessWitness(f"http://127.0.0.1:{self.port}", token=self.token, limit_s=20)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "witness")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_servers() -> Iterator[RunningServers]:
    with RunningServers() as running:
        yield running


Make = Callable[[], Witness]


@pytest.fixture(params=KINDS)
def observer(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes one more observer of the same witness."""
    kind = request.param
    if kind == "memory":
        memory = MemoryWitness()
        return lambda: memory
    if kind == "shelf":
        shelf = ShelfWitness(tmp_path)
        return lambda: shelf
    if kind == "process":
        return request.getfixturevalue("server").witness
    if kind == "bucket-memory":
        register = MemoryRegister()
        return lambda: BucketWitness(register)
    return _in_bucket(request, kind.removeprefix("bucket-"), tmp_path.name)


def _in_bucket(request: pytest.FixtureRequest, name: str, prefix: str) -> Make:
    server = request.getfixturevalue("s3_servers")[name]
    patch = request.getfixturevalue("monkeypatch")
    for variable, value in server.environment.items():
        patch.setenv(variable, value)
    return lambda: BucketWitness(open_register(server.url(prefix.replace("_", "-")), KEY))


def seen(witness: Witness) -> Seen:
    found = witness.look()
    assert found is not None
    return found


def test_a_record_is_enrolled_once_and_seen_by_all(observer: Make) -> None:
    one, other = observer(), observer()
    assert one.look() is None
    version = one.swap(None, RECORD)
    assert (seen(other).record, seen(other).version) == (RECORD, version)
    with pytest.raises(Overtaken):
        other.swap(None, replace(RECORD, epoch=9))


def test_it_changes_only_from_what_was_read(observer: Make) -> None:
    one, other = observer(), observer()
    first = one.swap(None, RECORD)
    second = one.swap(first, replace(RECORD, renewal=1))
    assert second != first
    other.look()
    with pytest.raises(Overtaken):
        other.swap(first, Record(epoch=4, primary="BERLIN"))
    assert seen(one).record == replace(RECORD, renewal=1)
    third = other.swap(second, Record(epoch=4, primary="BERLIN"))
    with pytest.raises(Overtaken):
        one.swap(second, replace(RECORD, renewal=2))
    assert (seen(one).record.primary, seen(one).version) == ("BERLIN", third)


def test_an_epoch_never_falls_and_never_changes_hands_without_rising(observer: Make) -> None:
    witness = observer()
    version = witness.swap(None, RECORD)
    for bad in (replace(RECORD, epoch=2), replace(RECORD, primary="ROME")):
        with pytest.raises(BadRecord):
            witness.swap(version, bad)
    assert seen(witness).record == RECORD


def test_of_many_at_once_one_wins(observer: Make) -> None:
    version = observer().swap(None, RECORD)
    observers = [observer() for _ in range(6)]
    for each in observers:
        each.look()

    def take(number: int) -> str:
        try:
            observers[number].swap(version, Record(epoch=4, primary=f"SITE{number}"))
        except Overtaken:
            return "refused"
        except WitnessAway:
            return "unknown"  # a store may say to racing writers that it is busy with another
        return "won"

    with ThreadPoolExecutor(len(observers)) as threads:
        outcomes = dict(zip(range(len(observers)), threads.map(take, range(len(observers))), strict=True))
    winners = [number for number, outcome in outcomes.items() if outcome == "won"]
    primary = int(seen(observer()).record.primary.removeprefix("SITE"))
    assert winners == [primary] or (winners == [] and outcomes[primary] == "unknown")


def test_a_record_ages_until_it_changes(observer: Make) -> None:
    witness = observer()
    version = witness.swap(None, RECORD)
    first = seen(witness).age_s
    wait_until(lambda: seen(witness).age_s > first + 0.2, timeout_s=30, what="a higher age")
    older = seen(witness).age_s
    witness.swap(version, replace(RECORD, renewal=1))
    assert seen(witness).age_s < older
    assert seen(observer()).age_s < older, "a newcomer to a bucket begins to count"


class TestProcess:
    def test_it_survives_a_kill_and_then_counts_from_its_start(self, server: Server) -> None:
        witness = server.witness()
        version = witness.swap(None, RECORD)
        wait_until(lambda: seen(witness).age_s > 0.3, timeout_s=30, what="some age")
        server.kill()
        with pytest.raises(WitnessAway, match="does not answer"):
            witness.look()
        server.start()
        again = seen(witness)
        assert (again.record, again.version) == (RECORD, version)
        assert witness.swap(version, replace(RECORD, renewal=1)) != version

    def test_who_has_no_token_learns_nothing(self, server: Server) -> None:
        url = f"http://127.0.0.1:{server.port}"
        stranger = ProcessWitness(url, token=Secret("mswt-wrong"), limit_s=20)
        with pytest.raises(WitnessAway, match="401"):
            stranger.look()
        with pytest.raises(WitnessAway, match="401"):
            stranger.swap(None, RECORD)
        assert server.witness().look() is None
        assert (server.data / "token").stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize(
        ("headers", "body", "status"),
        [
            ({"If-None-Match": "*"}, b"{", 400),
            ({"If-None-Match": "*"}, b"{}", 400),
            ({}, b"{}", 428),
            ({"If-Match": "v1"}, b"{}", 428),
            ({"If-None-Match": "*"}, b"x" * 20_000, 413),
        ],
    )
    def test_what_is_no_record_is_refused(
        self, server: Server, headers: dict[str, str], body: bytes, status: int
    ) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        told = {**headers, "Authorization": f"Bearer {server.token.reveal()}"}
        connection.request("PUT", PATH, body=body, headers=told)
        assert connection.getresponse().status == status
        connection.close()
        assert server.witness().look() is None

    def test_tls_with_certificates_keeps_strangers_out(self, tmp_path: Path) -> None:
        ours, key = make_certificate(tmp_path / "ours")
        site, site_key = make_certificate(tmp_path / "site", "site")
        server = Server(
            tmp_path / "witness", "--certificate", str(ours), "--key", str(key), "--clients", str(site)
        )
        server.start()
        try:
            url = f"https://127.0.0.1:{server.port}"
            known, stranger = (ssl.create_default_context(cafile=str(ours)) for _ in range(2))
            known.load_cert_chain(site, site_key)
            assert ProcessWitness(url, token=server.token, tls=known, limit_s=20).look() is None
            with pytest.raises(WitnessAway):
                ProcessWitness(url, token=server.token, tls=stranger, limit_s=20).look()
        finally:
            server.stop()

    def test_a_token_does_not_travel_in_plain_text(self) -> None:
        for url in ("http://witness.example:7000", "ftp://127.0.0.1:1", "127.0.0.1:1", "https://a/b"):
            with pytest.raises(BadWitnessUrl):
                ProcessWitness(url, token=Secret("x"))


class TestShelf:
    def test_a_directory_has_one_witness(self, tmp_path: Path) -> None:
        with only_user(tmp_path), pytest.raises(InUse, match="another witness"), only_user(tmp_path):
            pytest.fail("two at once")
        with only_user(tmp_path):
            assert ShelfWitness(tmp_path).look() is None

    def test_one_that_cannot_read_its_record_decides_nothing(self, tmp_path: Path) -> None:
        ShelfWitness(tmp_path).swap(None, RECORD)
        (tmp_path / RECORD_FILE).write_text("{")
        with pytest.raises(WitnessAway, match="cannot read"):
            ShelfWitness(tmp_path)

    def test_one_that_has_lost_its_disk_gives_no_version_twice(self, tmp_path: Path) -> None:
        version = ShelfWitness(tmp_path).swap(None, RECORD)
        (tmp_path / RECORD_FILE).unlink()
        fresh = ShelfWitness(tmp_path)
        with pytest.raises(Overtaken):
            fresh.swap(version, RECORD)
        assert fresh.swap(None, RECORD) != version


class TestRegister:
    def test_a_directory_cannot_hold_a_lease(self, tmp_path: Path) -> None:
        with pytest.raises(NoConditions, match="`mainstay witness serve` on a third machine"):
            open_register(str(tmp_path), KEY)

    @pytest.mark.parametrize("name", list(SERVERS))
    def test_a_store_proves_that_it_refuses(
        self, name: str, s3_servers: RunningServers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = s3_servers[name]
        for variable, value in server.environment.items():
            monkeypatch.setenv(variable, value)
        register = open_register(server.url("proof"), KEY)
        register.prove()
        assert register.read() is None
        assert list(server.open("proof").list("")) == [], "the trial is gone"

    def test_a_bucket_that_is_away_is_a_witness_that_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        url = f"s3://bucket/p?region=us-east-1&endpoint=http://127.0.0.1:{free_port()}"
        with pytest.raises(WitnessAway):
            BucketWitness(open_register(url, KEY)).look()
