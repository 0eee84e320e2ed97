"""The gates of the Git doors and the API: plain SQL that answers alike on SQLite and PostgreSQL.

People and projects are made by the product's own services; the gates read what those wrote.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import pytest

from mainstay.access.actors import ANONYMOUS, Actor, Kind
from mainstay.access.roles import Role, Visibility
from mainstay.boot import setup_django
from mainstay.foundation.clock import ManualClock
from mainstay.product.accounts.settings import AccountsSettings
from mainstay.storage.database import Database, Transaction, WouldWait
from mainstay.storage.database.opening import open_database
from support.databases import migrated_sqlite
from support.product import (
    PASSWORD,
    QUICK,
    acting,
    make_group,
    make_project,
    make_user,
    on_url,
    public_key,
)

setup_django()

from mainstay.product.accounts import identify, limits, services  # noqa: E402 - their tables need Django
from mainstay.product.accounts.identify import TooManyAttempts, WrongCredentials  # noqa: E402 - same
from mainstay.product.accounts.models import (  # noqa: E402 - same
    FailedSignIn,
    PersonalAccessToken,
    SshKey,
    User,
)
from mainstay.product.projects import groups, locate, machines, membership, protection  # noqa: E402 - same
from mainstay.product.projects.admission import Bearer, GitGate  # noqa: E402 - same
from mainstay.product.projects.locate import GitAction, NoSuchProject, NotPermitted  # noqa: E402 - same

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"
DAY = date(2023, 11, 20)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    path = tmp_path / "mainstay.db"
    migrated_sqlite(request.getfixturevalue("sqlite_template"), path).close()
    return f"sqlite://{path}"


@dataclass
class House:
    """A database, a clock, and short forms of the gates."""

    database: Database
    clock: ManualClock = field(default_factory=ManualClock)
    settings: AccountsSettings = QUICK

    def basic(self, username: str, secret: str, *, address: str = HERE) -> Actor:
        return identify.by_password_or_token(
            self.database, username, secret, address=address, clock=self.clock, settings=self.settings
        )

    def token(self, token: str, *, address: str = HERE) -> Actor:
        return identify.by_token(
            self.database, token, address=address, clock=self.clock, settings=self.settings
        )

    def key(self, fingerprint: str) -> Actor | None:
        return identify.by_ssh_key(self.database, fingerprint, clock=self.clock)

    def role(self, actor: Actor, path: str, action: GitAction = GitAction.PULL) -> Role:
        return locate.project_for(self.database, actor, path, action, clock=self.clock).role

    def new_token(self, user: User, scopes: str = "api", expires_on: date | None = None) -> str:
        return services.create_token(
            user, name="t", scopes=scopes.split(), expires_on=expires_on, clock=self.clock
        ).plaintext


@pytest.fixture
def house(url: str) -> Iterator[House]:
    database = open_database(url)
    with on_url(url):
        yield House(database)
    database.close()


# Who asks, passwords and tokens


@pytest.mark.parametrize("username", ["ada", "ADA", "ada@example.org", "Ada@Example.org"])
def test_a_password_identifies_by_user_name_or_address(house: House, username: str) -> None:
    ada = make_user("ada", password=PASSWORD)
    actor = house.basic(username, PASSWORD)
    assert actor == Actor(kind=Kind.USER, id=ada.id, name="ada")


def test_whatever_is_wrong_the_answer_is_the_same(house: House) -> None:
    make_user("ada", password=PASSWORD)
    make_user("nopassword")
    services.block(make_user("blocked", password=PASSWORD))
    attempts = [
        ("ada", "wrong"),
        ("ada", ""),
        ("ada", PASSWORD + " "),
        ("nobody", PASSWORD),
        ("", ""),
        ("nopassword", ""),
        ("blocked", PASSWORD),
        ("ada' OR 1=1 --", PASSWORD),
        ("a\0da", PASSWORD),
        ("ada", "x\0y"),
        ("ada\n", PASSWORD),
        (" ada", PASSWORD),
        ("\udcff", "\udcff"),
        ("x" * 100_000, "y" * 100_000),
        ("ada", "glpat-00000000000000000000"),
        ("ada", "gldt-00000000000000000000"),
        ("ada", "glpat-\udcff"),
    ]
    sentences = set()
    for number, (username, secret) in enumerate(attempts):
        with pytest.raises(WrongCredentials) as refusal:
            house.basic(username, secret, address=f"203.0.113.{number}")
        sentences.add(str(refusal.value))
    assert len(sentences) == 1


@pytest.mark.parametrize("username", ["ada", "anybody", "oauth2", ""])
def test_a_token_is_a_password_whatever_the_user_name(house: House, username: str) -> None:
    ada = make_user("ada")
    actor = house.basic(username, house.new_token(ada, "read_repository read_user"))
    assert (actor.name, actor.scopes) == ("ada", {"read_repository", "read_user"})


def test_a_token_works_until_it_expires_is_revoked_or_its_owner_is_blocked(house: House) -> None:
    ada = make_user("ada")
    expiring, revoked, kept = (house.new_token(ada, expires_on=day) for day in (DAY, None, None))
    assert {house.token(token).id for token in (expiring, revoked, kept)} == {ada.id}
    house.clock.advance(6 * 24 * 3600)
    services.revoke_token(PersonalAccessToken.objects.order_by("id")[1], clock=house.clock)
    for token in (expiring, revoked):
        with pytest.raises(WrongCredentials):
            house.token(token)
    services.block(ada)
    with pytest.raises(WrongCredentials):
        house.token(kept)
    services.unblock(ada)
    assert house.token(kept).id == ada.id


def test_an_administrator_is_one_by_password_token_and_key(house: House) -> None:
    root = make_user("root", password=PASSWORD, is_admin=True)
    key = services.add_ssh_key(root, public_key())
    by_key = house.key(key.fingerprint)
    assert by_key is not None
    assert [house.basic("root", PASSWORD).is_admin, house.token(house.new_token(root)).is_admin] == [True] * 2
    assert by_key.is_admin


def test_a_changed_password_or_a_block_counts_at_once(house: House) -> None:
    ada = make_user("ada", password=PASSWORD)
    house.basic("ada", PASSWORD)  # from now on this process remembers that it fits
    services.set_password(ada, "battery staple", settings=QUICK)
    with pytest.raises(WrongCredentials):
        house.basic("ada", PASSWORD)
    house.basic("ada", "battery staple")
    services.block(ada)
    with pytest.raises(WrongCredentials):
        house.basic("ada", "battery staple")


def test_a_sign_in_brings_an_old_hash_to_todays_cost(house: House) -> None:
    ada = make_user("ada", password=PASSWORD)
    before = ada.password_hash
    house.settings = replace(QUICK, argon2_passes=2)
    house.basic("ada", PASSWORD)
    ada.refresh_from_db()
    assert (",t=1," in before, ",t=2," in ada.password_hash) == (True, True)
    house.basic("ada", PASSWORD)


def test_last_use_is_noted_once_a_minute(house: House) -> None:
    token = house.new_token(make_user("ada"))
    seen = []
    for seconds in (0, 30, 31):
        house.clock.advance(seconds)
        house.token(token)
        seen.append(PersonalAccessToken.objects.get().last_used_at_ms)
    start = house.clock.now_ms() - 61_000
    assert seen == [start, start, start + 61_000]


# Who asks, keys


def test_a_key_identifies_its_owner(house: House) -> None:
    ada = make_user("ada")
    key = services.add_ssh_key(ada, public_key(), title="laptop")
    assert house.key(key.fingerprint) == Actor(kind=Kind.USER, id=ada.id, name="ada", token_id=key.id)
    assert identify.public_key_line(house.database, key.fingerprint) == key.public_key
    assert house.key("SHA256:unknown") is None
    services.block(ada)
    assert house.key(key.fingerprint) is None


def test_an_expired_or_removed_key_identifies_nobody(house: House) -> None:
    ada = make_user("ada")
    expiring = services.add_ssh_key(
        ada, public_key(), expires_at_ms=house.clock.now_ms() + 1000, clock=house.clock
    )
    removed = services.add_ssh_key(ada, public_key())
    fingerprint = removed.fingerprint
    assert house.key(expiring.fingerprint) is not None
    house.clock.advance(1)
    services.remove_ssh_key(removed)
    assert [house.key(expiring.fingerprint), house.key(fingerprint)] == [None, None]


def test_asking_for_a_key_writes_nothing_and_using_it_does(house: House) -> None:
    key = services.add_ssh_key(make_user("ada"), public_key())
    house.key(key.fingerprint)
    assert SshKey.objects.get().last_used_at_ms is None
    identify.note_ssh_key_used(house.database, key.id, clock=house.clock)
    first = house.clock.now_ms()
    house.clock.advance(30)
    identify.note_ssh_key_used(house.database, key.id, clock=house.clock)
    assert SshKey.objects.get().last_used_at_ms == first


# Who asks, too many failures


def fail(house: House, times: int, *, address: str = HERE) -> None:
    for _ in range(times):
        with pytest.raises(WrongCredentials):
            house.basic("ada", "wrong", address=address)


def test_ten_failures_in_a_minute_close_the_door_to_an_address(house: House) -> None:
    ada = make_user("ada", password=PASSWORD)
    token = house.new_token(ada)
    fail(house, 10)
    for secret in ("wrong", PASSWORD, token):
        with pytest.raises(TooManyAttempts) as refusal:
            house.basic("ada", secret)
        assert refusal.value.retry_after_s == 3600
    assert house.basic("ada", PASSWORD, address=ELSEWHERE).id == ada.id
    house.clock.advance(3601)
    assert house.basic("ada", PASSWORD).id == ada.id


def test_slow_failures_close_nothing(house: House) -> None:
    make_user("ada", password=PASSWORD)
    for _ in range(3):
        fail(house, 9)
        house.clock.advance(61)
    assert house.basic("ada", PASSWORD).name == "ada"


def test_a_success_in_between_forgives_nothing(house: House) -> None:
    make_user("ada", password=PASSWORD)
    make_user("eve", password=PASSWORD)
    fail(house, 9)
    house.basic("eve", PASSWORD)
    fail(house, 1)
    with pytest.raises(TooManyAttempts):
        house.basic("eve", PASSWORD)


def test_addresses_are_told_apart_as_their_owners_are(house: House) -> None:
    make_user("ada", password=PASSWORD)
    for number in range(10):
        fail(house, 1, address=f"2001:db8:1:2::{number:x}")
    with pytest.raises(TooManyAttempts):
        house.basic("ada", PASSWORD, address="2001:db8:1:2:ffff::1")
    assert house.basic("ada", PASSWORD, address="2001:db8:1:3::1").name == "ada"
    fail(house, 10, address="::ffff:203.0.113.9")
    with pytest.raises(TooManyAttempts):
        house.basic("ada", PASSWORD, address="203.0.113.9")


def test_addresses_on_the_list_are_never_banned(house: House) -> None:
    make_user("ada", password=PASSWORD)
    house.settings = replace(QUICK, never_banned=("192.0.2.0/24",))
    fail(house, 12)
    assert house.basic("ada", PASSWORD).name == "ada"
    fail(house, 10, address=ELSEWHERE)
    with pytest.raises(TooManyAttempts):
        house.basic("ada", PASSWORD, address=ELSEWHERE)


def test_old_failures_are_forgotten_and_bans_that_last_are_not(house: House) -> None:
    make_user("ada", password=PASSWORD)
    house.settings = replace(QUICK, ban_s=3 * 24 * 3600)
    fail(house, 10)
    fail(house, 1, address=ELSEWHERE)
    house.clock.advance(2 * 24 * 3600)
    assert limits.forget_old_failures(house.database, house.clock) == 1
    with pytest.raises(TooManyAttempts):
        house.basic("ada", PASSWORD)


# Which project, paths


@pytest.mark.parametrize(
    "path", ["ada/engine", "/ada/engine", "ada/engine.git", "/ADA/Engine.git/", "//ada/engine//"]
)
def test_a_project_has_one_path_in_many_forms(house: House, path: str) -> None:
    ada = make_user("ada")
    project = make_project("engine", owner=ada)
    facts = locate.project_for(house.database, acting(ada), path, GitAction.PUSH)
    assert (facts.id, facts.repository_id, facts.full_path) == (
        project.id,
        project.repository_id,
        "ada/engine",
    )


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "engine",
        "ada",
        "ada/",
        "ada/engine.git.git",
        "ada//engine",
        "ada/./engine",
        "ada/../ada/engine",
        "ada/engine\0",
        "ada/engine\n",
        "ada%2fengine",
        "ada/engin_",
        "ada/%",
        "аda/engine",  # noqa: RUF001 - the first letter is Cyrillic
        "\udcff/engine",
        "a/" * 5000,
        "' OR 1=1 --/x",
    ],
)
def test_path_tricks_find_nothing(house: House, path: str) -> None:
    ada = make_user("ada")
    make_project("engine", owner=ada)
    for actor in (acting(ada), ANONYMOUS, replace(acting(ada), is_admin=True)):
        with pytest.raises(NoSuchProject):
            locate.project_for(house.database, actor, path, GitAction.PULL)


# Which project, roles


def test_a_role_comes_from_the_project_and_from_every_group_above(house: House) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    acme = make_group("acme", owner=ada)
    sub = make_group("sub", owner=ada, parent=acme)
    project = make_project("engine", namespace=sub)
    path, actor = "acme/sub/engine", acting(bob)
    with pytest.raises(NoSuchProject):
        house.role(actor, path)
    membership.add_member(acme, bob, Role.REPORTER, by=acting(ada))
    assert house.role(actor, path) == Role.REPORTER
    with pytest.raises(NotPermitted):
        house.role(actor, path, GitAction.PUSH)
    membership.add_member(project, bob, Role.DEVELOPER, by=acting(ada))
    assert house.role(actor, path, GitAction.PUSH) == Role.DEVELOPER
    membership.add_member(sub, bob, Role.MAINTAINER, by=acting(ada))
    facts = locate.project_for(house.database, actor, path, GitAction.PUSH)
    assert (facts.role, facts.here, facts.above) == (Role.MAINTAINER, Role.DEVELOPER, Role.MAINTAINER)


def test_a_role_ends_at_its_moment(house: House) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    project = make_project("engine", owner=ada)
    membership.add_member(
        project,
        bob,
        Role.DEVELOPER,
        by=acting(ada),
        expires_at_ms=house.clock.now_ms() + 1000,
        clock=house.clock,
    )
    assert house.role(acting(bob), "ada/engine") == Role.DEVELOPER
    house.clock.advance(1)
    with pytest.raises(NoSuchProject):
        house.role(acting(bob), "ada/engine")


def test_a_neighbour_with_a_similar_path_gives_no_role(house: House) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    make_project("engine", namespace=make_group("acme", owner=ada))
    for path in ("ac", "acm", "acme2"):
        make_group(path, owner=bob)
    with pytest.raises(NoSuchProject):
        house.role(acting(bob), "acme/engine")


@pytest.mark.parametrize(
    ("visibility", "anonymous", "stranger"),
    [
        (Visibility.PRIVATE, NoSuchProject, NoSuchProject),
        (Visibility.INTERNAL, NoSuchProject, None),
        (Visibility.PUBLIC, None, None),
    ],
)
def test_visibility_opens_reading_only(
    house: House, visibility: Visibility, anonymous: type[Exception] | None, stranger: type[Exception] | None
) -> None:
    make_project("engine", owner=make_user("ada"), visibility=visibility)
    bob = acting(make_user("bob"))
    for actor, error in ((ANONYMOUS, anonymous), (bob, stranger)):
        if error is None:
            assert house.role(actor, "ada/engine") == Role.NONE
        else:
            with pytest.raises(error):
                house.role(actor, "ada/engine")
        with pytest.raises(error or NotPermitted):
            house.role(actor, "ada/engine", GitAction.PUSH)


def test_an_archived_project_is_only_read(house: House) -> None:
    from mainstay.product.projects.services import set_project

    ada = make_user("ada")
    set_project(make_project("engine", owner=ada), archived=True, by=acting(ada))
    assert house.role(acting(ada), "ada/engine") == Role.OWNER
    with pytest.raises(NotPermitted, match="archived"):
        house.role(acting(ada), "ada/engine", GitAction.PUSH)


def test_the_old_path_of_a_renamed_group_leads_nowhere(house: House) -> None:
    ada = make_user("ada")
    acme = make_group("acme", owner=ada)
    make_project("engine", namespace=acme)
    groups.rename_group(acme, "corp", by=acting(ada))
    assert house.role(acting(ada), "corp/engine") == Role.OWNER
    with pytest.raises(NoSuchProject):
        house.role(acting(ada), "acme/engine")


# Which project, machines


def test_a_deploy_key_opens_its_project_only(house: House) -> None:
    ada = make_user("ada")
    reading, writing = make_project("reading", owner=ada), make_project("writing", owner=ada)
    make_project("other", owner=ada)
    line = public_key()
    grant = machines.create_deploy_key(reading, line, title="robot")
    machines.create_deploy_key(writing, line, can_push=True)
    actor = house.key(grant.key.fingerprint)
    assert actor is not None
    assert (actor.kind, actor.name) == (Kind.DEPLOY_KEY, "robot")
    assert house.role(actor, "ada/writing", GitAction.PUSH) == Role.DEVELOPER
    assert house.role(actor, "ada/reading") == Role.REPORTER
    with pytest.raises(NotPermitted):
        house.role(actor, "ada/reading", GitAction.PUSH)
    with pytest.raises(NoSuchProject):
        house.role(actor, "ada/other")


def test_a_key_and_a_user_of_the_same_number_are_not_mixed_up(house: House) -> None:
    ada = make_user("ada")
    project, other = make_project("engine", owner=ada), make_project("other", owner=ada)
    grant = machines.create_deploy_key(project, public_key())
    assert grant.key_id == ada.id  # the first row of both tables
    actor = house.key(grant.key.fingerprint)
    assert actor is not None
    with pytest.raises(NoSuchProject):
        house.role(actor, other.full_path)


def test_a_deploy_token_opens_its_project_or_all_below_its_group(house: House) -> None:
    ada = make_user("ada")
    acme = make_group("acme", owner=ada)
    inside = make_project("inside", namespace=make_group("sub", owner=ada, parent=acme))
    make_project("outside", owner=ada)
    of_group = machines.create_deploy_token(acme, name="all", scopes=["read_repository", "write_repository"])
    of_project = machines.create_deploy_token(inside, name="one", scopes=["read_repository"])
    group_actor = house.basic(of_group.token.username, of_group.plaintext)
    project_actor = house.basic("anything", of_project.plaintext)
    assert (group_actor.kind, group_actor.name) == (Kind.DEPLOY_TOKEN, "all")
    assert house.role(group_actor, "acme/sub/inside", GitAction.PUSH) == Role.DEVELOPER
    assert house.role(project_actor, "acme/sub/inside") == Role.DEVELOPER
    with pytest.raises(NotPermitted):
        house.role(project_actor, "acme/sub/inside", GitAction.PUSH)
    for actor in (group_actor, project_actor):
        with pytest.raises(NoSuchProject):
            house.role(actor, "ada/outside")
    machines.revoke_deploy_token(of_group.token)
    with pytest.raises(WrongCredentials):
        house.token(of_group.plaintext)


# Which project, what a push is judged by


def test_push_rules_hold_the_role_and_the_protected_refs(house: House) -> None:
    ada = make_user("ada")
    project, other = make_project("engine", owner=ada), make_project("other", owner=ada)
    protection.protect_branch(project, "main", push_role=Role.DEVELOPER, allow_force=True)
    protection.protect_branch(project, "frozen", push_role=Role.NONE)
    protection.protect_tag(project, "v*")
    protection.protect_branch(other, "other")
    actor = acting(ada)
    facts = locate.project_for(house.database, actor, "ada/engine", GitAction.PUSH)
    rules = locate.push_rules(house.database, actor, facts)
    assert rules.role is Role.OWNER
    assert {(r.pattern, r.push_role, r.allow_force) for r in rules.branches} == {
        ("main", Role.DEVELOPER, True),
        ("frozen", Role.NONE, False),
    }
    assert [(r.pattern, r.push_role, r.allow_force) for r in rules.tags] == [("v*", Role.MAINTAINER, False)]


def test_a_first_push_is_judged_before_anything_is_made(house: House) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    make_group("acme", owner=bob, visibility=Visibility.PUBLIC)
    locate.check_may_create(house.database, acting(ada), "ada/new-thing.git")
    for path in ("bob/thing", "acme/thing", "nowhere/thing", "thing", ""):
        with pytest.raises(NoSuchProject):
            locate.check_may_create(house.database, acting(ada), path)


def test_without_waiting_a_fetch_is_judged_as_ever_and_by_what_holds_now(house: House) -> None:
    ada = make_user("ada")
    project = make_project("engine", owner=ada)
    token = house.new_token(ada)
    house.token(token)  # notes that it was used, which is a write

    gate = GitGate(house.database, clock=house.clock, create_on_push=None, accounts=house.settings)

    def admit() -> int | None:
        with gate.without_waiting(Bearer(token)):
            actor = gate.identify(Bearer(token), address=HERE)
            return gate.enter(actor, "ada/engine", GitAction.PULL, create=False).repository_id

    if house.database.dialect == "postgresql":
        with pytest.raises(WouldWait):
            admit()
        return
    assert admit() == project.repository_id
    services.block(ada)
    with pytest.raises(WouldWait):  # because the failure is to be counted
        admit()
    services.unblock(ada)
    assert admit() == project.repository_id
    services.revoke_token(PersonalAccessToken.objects.get(), clock=house.clock)
    with pytest.raises(WouldWait):
        admit()
    assert not FailedSignIn.objects.exists()
    with pytest.raises(WrongCredentials):
        house.token(token)
    assert FailedSignIn.objects.get().failures == 1


def test_an_admission_costs_one_query_to_identify_and_one_to_locate(house: House) -> None:
    ada = make_user("ada")
    make_project("engine", owner=ada)
    token = house.new_token(ada)
    house.token(token)
    counting = CountingDatabase(house.database)
    actor = identify.by_token(counting, token, address=HERE, clock=house.clock)
    assert counting.transactions == 1
    locate.project_for(counting, actor, "ada/engine", GitAction.PULL)
    assert counting.transactions == 2


class CountingDatabase:
    """Counts the transactions of another database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.transactions = 0
        self.dialect = database.dialect
        self.close = database.close

    def read(self):
        self.transactions += 1
        return self._database.read()

    def write(self):
        self.transactions += 1
        return self._database.write()


def test_no_gate_reads_a_whole_table(tmp_path: Path, sqlite_template: Path) -> None:
    """One look-up, however many users, keys, tokens and projects there are."""
    path = tmp_path / "mainstay.db"
    migrated_sqlite(sqlite_template, path).close()
    with on_url(f"sqlite://{path}"):
        ada = make_user("ada", password=PASSWORD)
        make_project("engine", owner=ada)
        database = PlanningDatabase(open_database(f"sqlite://{path}"))
        house = House(database)
        key = services.add_ssh_key(ada, public_key())
        deploy = machines.create_deploy_token(
            ada.namespace.projects.get(), name="t", scopes=["read_repository"]
        )
        house.basic("ada", PASSWORD)
        house.key(key.fingerprint)
        for actor in (house.token(house.new_token(ada)), house.token(deploy.plaintext)):
            facts = locate.project_for(database, actor, "ada/engine", GitAction.PULL)
            locate.push_rules(database, actor, facts)
        database.close()
    scans = [step for step in database.steps if step.startswith("SCAN") and step not in _NO_TABLE]
    assert len(database.steps) > 15
    assert scans == []


_NO_TABLE = {"SCAN CONSTANT ROW", "SCAN always"}


class PlanningDatabase:
    """Keeps the query plan of every statement of an SQLite database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.close = database.close
        self.write = database.write
        self.steps: list[str] = []

    @contextmanager
    def read(self):
        with self._database.read() as transaction:
            yield _PlanningTransaction(transaction, self.steps)


class _PlanningTransaction:
    def __init__(self, transaction: Transaction, steps: list[str]) -> None:
        self._transaction = transaction
        self._steps = steps

    def row(self, sql, parameters=()):
        self._steps += [step[3] for step in self._transaction.rows(f"EXPLAIN QUERY PLAN {sql}", parameters)]
        return self._transaction.row(sql, parameters)

    def rows(self, sql, parameters=()):
        self._steps += [step[3] for step in self._transaction.rows(f"EXPLAIN QUERY PLAN {sql}", parameters)]
        return self._transaction.rows(sql, parameters)


# At the same moment


def at_once(*tasks: Callable[[], object]) -> list[object]:
    """Run the tasks in threads that start together; return results and exceptions."""
    from django.db import connections

    start = threading.Barrier(len(tasks))

    def run(task: Callable[[], object]) -> object:
        start.wait(timeout=30)
        try:
            return task()
        except Exception as error:  # noqa: BLE001 - the test judges it
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def test_first_pushes_to_one_path_at_once_make_one_project(house: House) -> None:
    from mainstay.product.projects.services import create_on_push

    actor = acting(make_user("ada"))
    results = at_once(*[lambda: create_on_push(actor, "ada/engine")] * 4)
    assert [result for result in results if result != results[0]] == []
    assert house.role(actor, "ada/engine") == Role.OWNER


@pytest.mark.usefixtures("house")
def test_owners_who_remove_each_other_at_once_leave_one() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    acme = make_group("acme", owner=ada)
    membership.add_member(acme, bob, Role.OWNER, by=acting(ada))
    results = at_once(
        lambda: membership.remove_member(acme, bob, by=acting(ada)),
        lambda: membership.remove_member(acme, ada, by=acting(bob)),
    )
    assert acme.members.count() == 1
    assert [type(result) for result in results].count(type(None)) == 1


def test_a_project_made_while_its_group_is_renamed_is_under_the_new_path(house: House) -> None:
    ada = make_user("ada")
    acme = make_group("acme", owner=ada)
    sub = make_group("sub", owner=ada, parent=acme)
    at_once(
        lambda: groups.rename_group(acme, "corp", by=acting(ada)),
        lambda: make_project("one", namespace=sub),
        lambda: make_project("two", namespace=sub),
        lambda: make_group("deeper", owner=ada, parent=sub),
    )
    for name in ("one", "two"):
        assert house.role(acting(ada), f"corp/sub/{name}") == Role.OWNER
    assert locate.group_standing(house.database, acting(ada), "corp/sub/deeper") is not None


def test_wrong_passwords_at_once_are_all_counted(house: House) -> None:
    make_user("ada", password=PASSWORD)
    results = at_once(*[lambda: house.basic("ada", "wrong")] * 10)
    assert {type(result) for result in results} == {WrongCredentials}
    with pytest.raises(TooManyAttempts):
        house.basic("ada", PASSWORD)


def test_a_restored_project_keeps_its_id_and_later_ones_get_new_ones(house: House) -> None:
    """Of `rebuild-db`: rows that came with their ids must not collide with the next ones."""
    from mainstay.product.projects.identity import identity_of, restore_identity
    from mainstay.product.projects.models import Namespace, Project

    project = make_project("engine", owner=make_user("ada"))
    identity = {**identity_of(project), "full_path": "bob/motor"}
    identity["project"] = {**identity["project"], "id": 40, "path": "motor", "creator": None}
    owner = {"id": 41, "username": "bob", "name": "Bob", "is_admin": False}
    identity["namespaces"] = [
        {**identity["namespaces"][0], "id": 42, "path": "bob", "name": "bob", "owner": owner}
    ]
    restored = restore_identity(identity, 99)
    assert identity_of(restored) == identity
    cyd = make_user("cyd")
    after = make_project("after", owner=cyd)
    assert (cyd.id > 41, cyd.namespace.id > 42, after.id > 40) == (True, True, True)
    assert house.role(acting(User.objects.get(username="bob")), "bob/motor") == Role.OWNER
    assert (Project.objects.count(), Namespace.objects.count()) == (3, 3)
