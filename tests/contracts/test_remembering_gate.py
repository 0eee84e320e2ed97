"""Who may still fetch when the database is away, and who may not any more."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mainstay.access.actors import Actor
from mainstay.access.roles import Visibility
from mainstay.boot import setup_django
from mainstay.cache.known import KnownFile
from mainstay.cache.outage import Outage
from mainstay.foundation.clock import ManualClock
from mainstay.storage.database import Database, DatabaseAway
from mainstay.storage.database.opening import open_database
from support.databases import migrated_sqlite
from support.product import PASSWORD, QUICK, make_project, make_user, on_url, public_key

setup_django()

from mainstay.product.accounts import services  # noqa: E402 - its tables need Django
from mainstay.product.accounts.identify import WrongCredentials  # noqa: E402 - same
from mainstay.product.accounts.models import SshKey as StoredKey  # noqa: E402 - same
from mainstay.product.accounts.models import User  # noqa: E402 - same
from mainstay.product.projects.admission import (  # noqa: E402 - same
    NOBODY,
    Bearer,
    Credentials,
    SignInNeeded,
    SshKey,
    UserAndSecret,
)
from mainstay.product.projects.locate import GitAction, NoSuchProject  # noqa: E402 - same
from mainstay.product.projects.remembered import RememberingGate  # noqa: E402 - same

HERE = "192.0.2.1"
WINDOW_S = 600


@dataclass
class House:
    """A gate over a database that can be away."""

    database: Database
    known: KnownFile
    clock: ManualClock
    away_since_s: float | None = None
    gate: RememberingGate = field(init=False)

    def __post_init__(self) -> None:
        outage = Outage(
            last_failed=lambda: self.away_since_s is not None,
            seen_ago_s=lambda: self.clock.monotonic_s() - (self.away_since_s or self.clock.monotonic_s()),
            window_s=WINDOW_S,
            clock=self.clock,
            is_certain=lambda: True,
        )
        self.gate = RememberingGate(
            self.database,
            clock=self.clock,
            create_on_push=_no_projects,
            accounts=QUICK,
            known=self.known,
            outage=outage,
            key=b"k" * 32,
        )

    def fetch(self, credentials: Credentials, path: str = "ada/engine", *, push: bool = False) -> Any:
        actor = self.gate.identify(credentials, address=HERE)
        return self.gate.enter(actor, path, GitAction.PUSH if push else GitAction.PULL, create=False)

    def lose_database(self, *, after_s: float = 0.0, ago_s: float = 10.0) -> None:
        """It goes away after a while, and `ago_s` pass."""
        self.clock.advance(after_s)
        self.away_since_s = self.clock.monotonic_s()
        self.clock.advance(ago_s)


def _no_projects(_actor: Actor, _path: str) -> Any:
    raise AssertionError("nobody makes a project here")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    path = tmp_path / "mainstay.db"
    migrated_sqlite(request.getfixturevalue("sqlite_template"), path).close()
    return f"sqlite://{path}"


@pytest.fixture
def house(url: str, tmp_path: Path) -> Iterator[House]:
    database, clock = open_database(url), ManualClock()
    clock.advance(1)
    known = KnownFile(tmp_path / "cache" / "known.db", clock)
    with on_url(url):
        yield House(database, known, clock)
    known.close()
    database.close()


@pytest.fixture
def ada(house: House) -> User:
    ada = make_user("ada", password=PASSWORD)
    make_project("engine", owner=ada)
    return ada


def token_of(house: House, user: User) -> Any:
    return services.create_token(
        user, name="t", scopes=["read_repository"], expires_on=None, clock=house.clock
    )


def ways_in(house: House, ada: User) -> list[Credentials]:
    token = token_of(house, ada).plaintext
    key = services.add_ssh_key(ada, public_key(), clock=house.clock)
    return [UserAndSecret("ada", PASSWORD), UserAndSecret("x", token), Bearer(token), SshKey(key.fingerprint)]


def test_who_fetched_before_may_fetch_the_same_by_every_way(house: House, ada: User) -> None:
    ways = ways_in(house, ada)
    before = [house.fetch(way) for way in ways]
    house.gate.check_round()
    house.lose_database(after_s=5)
    for way, was in zip(ways, before, strict=True):
        now = house.fetch(way)
        assert (now.repository_id, now.path, now.known_ago_s) == (was.repository_id, "ada/engine", 10)
        assert (now.actor.id, now.actor.name, now.actor.scopes) == (
            was.actor.id,
            was.actor.name,
            was.actor.scopes,
        )


def test_nobody_pushes_from_memory(house: House, ada: User) -> None:
    house.fetch(UserAndSecret("ada", PASSWORD))
    house.fetch(UserAndSecret("ada", PASSWORD), push=True)
    house.lose_database()
    with pytest.raises(DatabaseAway, match="pushes wait"):
        house.fetch(UserAndSecret("ada", PASSWORD), push=True)


def test_who_was_identified_from_memory_is_not_believed_when_the_database_is_back(
    house: House, ada: User
) -> None:
    house.fetch(UserAndSecret("ada", PASSWORD))
    house.lose_database()
    remembered = house.gate.identify(UserAndSecret("ada", PASSWORD), address=HERE)
    house.away_since_s = None
    with pytest.raises(DatabaseAway):
        house.gate.enter(remembered, "ada/engine", GitAction.PUSH, create=False)


def test_others_and_other_secrets_and_other_paths_are_not_known(house: House, ada: User) -> None:
    make_user("eve", password=PASSWORD)
    with pytest.raises(NoSuchProject):
        house.fetch(UserAndSecret("eve", PASSWORD))
    make_project("other", owner=ada)
    house.fetch(UserAndSecret("ada", PASSWORD))
    house.lose_database()
    for credentials, path in [
        (UserAndSecret("eve", PASSWORD), "ada/engine"),
        (UserAndSecret("ada", "wrong"), "ada/engine"),
        (Bearer("glpat-never"), "ada/engine"),
        (UserAndSecret("ada", PASSWORD), "ada/other"),
    ]:
        with pytest.raises(DatabaseAway):
            house.fetch(credentials, path)


def test_nobody_is_asked_to_sign_in_unless_what_is_public_is_known(house: House, ada: User) -> None:
    make_project("open", owner=ada, visibility=Visibility.PUBLIC)
    house.fetch(NOBODY, "ada/open")
    house.lose_database()
    assert house.fetch(NOBODY, "ada/open").known_ago_s == 10
    for path in ("ada/engine", "ada/never"):
        with pytest.raises(SignInNeeded):
            house.fetch(NOBODY, path)


@pytest.mark.parametrize("how", ["token", "password", "key", "block"])
def test_what_was_revoked_before_the_outage_is_forgotten(house: House, ada: User, how: str) -> None:
    """Nobody came by with it since; the check has found out."""
    token = token_of(house, ada)
    key = services.add_ssh_key(ada, public_key(), clock=house.clock)
    way = {
        "token": Bearer(token.plaintext),
        "password": UserAndSecret("ada", PASSWORD),
        "key": SshKey(key.fingerprint),
        "block": Bearer(token.plaintext),
    }[how]
    house.fetch(way)
    if how == "token":
        type(token.token).objects.filter(id=token.token.id).update(revoked_at_ms=house.clock.now_ms())
    elif how == "password":
        User.objects.filter(id=ada.id).update(password_hash="another")
    elif how == "key":
        StoredKey.objects.filter(id=key.id).delete()
    else:
        User.objects.filter(id=ada.id).update(state="blocked")
    house.gate.check_round()
    house.lose_database(after_s=5)
    with pytest.raises(DatabaseAway):
        house.fetch(way)


def test_who_is_refused_is_forgotten_at_once(house: House, ada: User) -> None:
    token = token_of(house, ada)
    house.fetch(Bearer(token.plaintext))
    User.objects.filter(id=ada.id).update(state="blocked")
    with pytest.raises(WrongCredentials):
        house.fetch(Bearer(token.plaintext))
    house.lose_database()
    with pytest.raises(DatabaseAway):
        house.fetch(Bearer(token.plaintext))


def test_a_right_that_was_not_found_to_hold_lately_is_not_relied_on(house: House, ada: User) -> None:
    house.fetch(UserAndSecret("ada", PASSWORD))
    house.lose_database(after_s=61)
    with pytest.raises(DatabaseAway):
        house.fetch(UserAndSecret("ada", PASSWORD))


def test_checks_keep_a_right_alive_within_the_window_and_no_longer(house: House, ada: User) -> None:
    house.fetch(UserAndSecret("ada", PASSWORD))
    house.clock.advance(WINDOW_S - 30)
    house.gate.check_round()
    house.lose_database(after_s=20)
    assert house.fetch(UserAndSecret("ada", PASSWORD)).known_ago_s == 10
    house.clock.advance(WINDOW_S)
    with pytest.raises(DatabaseAway):
        house.fetch(UserAndSecret("ada", PASSWORD))


def test_no_secret_is_written_down(house: House, ada: User, tmp_path: Path) -> None:
    token = token_of(house, ada).plaintext
    house.fetch(Bearer(token))
    house.fetch(UserAndSecret("ada", PASSWORD))
    written = b"".join(file.read_bytes() for file in (tmp_path / "cache").iterdir())
    assert token.encode() not in written
    assert PASSWORD.encode() not in written
