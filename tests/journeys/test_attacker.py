"""Who guesses, pretends or has too little: one verdict everywhere, and nobody else suffers."""

import sqlite3
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

import pytest

from support.node import Node
from support.people import Person, person, project_id
from support.raw_http import Reply, ask, basic, commands, post_to
from support.raw_push import ZERO, blob, commit, pack_of, tree

NOTHING: Mapping[str, str] = MappingProxyType({})
FAILURES_MAX = 10
BAN_S = 3600

_FILE = blob(b"by hand\n")
_TOP = tree({"file": _FILE})


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Behind a proxy that it trusts, so that tests can come from many addresses."""
    environment = {"MAINSTAY_TRUSTED_PROXIES": "127.0.0.0/8"}
    with Node(tmp_path_factory.mktemp("attacked") / "data", environment=environment) as node:
        yield node


@pytest.fixture(scope="module")
def ada(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return person(node, tmp_path_factory.mktemp("ada"), "ada")


@pytest.fixture(scope="module")
def eve(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return person(node, tmp_path_factory.mktemp("eve"), "eve")


@pytest.fixture(scope="module")
def path(ada: Person, tmp_path_factory: pytest.TempPathFactory) -> str:
    work = ada.git.repository(tmp_path_factory.mktemp("work") / "work")
    ada.git("push", "--quiet", ada.url("ada/secret"), "main", cwd=work)
    return "ada/secret"


def look(
    node: Node, path: str, headers: Mapping[str, str] = NOTHING, service: str = "git-upload-pack"
) -> Reply:
    return ask(node, "GET", f"/{path}.git/info/refs?service={service}", None, headers)


def coming_from(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Guessing
def test_who_guesses_is_shut_out_alone(node: Node, ada: Person, path: str) -> None:
    guesser, neighbour = coming_from("203.0.113.7"), coming_from("203.0.113.8")
    for number in range(FAILURES_MAX):
        assert look(node, path, basic("ada", f"guess-{number}") | guesser).status == 401
    banned = look(node, path, basic("ada", "guess") | guesser)
    assert banned.status == 429
    assert 0 < int(banned.headers["retry-after"]) <= BAN_S
    assert "too many failed sign-ins" in banned.text
    right = basic("ada", ada.password)
    assert look(node, path, right | guesser).status == 429, "a right password does not end the ban"
    assert ask(node, "GET", "/api/v4/user", None, bearer("glpat-wrong") | guesser).status == 429
    assert look(node, path, right | neighbour).status == 200, "the account is not locked"
    assert look(node, path, right).status == 200
    assert ada.git.refs(ada.ssh_url(path)), "keys cannot be guessed, so they still open"


def test_the_ban_is_kept_in_the_database_and_ends(node: Node, path: str) -> None:
    for number in range(FAILURES_MAX):
        look(node, path, basic("ada", f"guess-{number}") | coming_from("203.0.113.9"))
    with closing(sqlite3.connect(f"file:{node.data}/mainstay.db?mode=ro", uri=True)) as database:
        started_ms, failures, until_ms = database.execute(
            "SELECT window_started_ms, failures, banned_until_ms FROM accounts_failedsignin"
            " WHERE address = ?",
            ("203.0.113.9",),
        ).fetchone()
    assert failures == FAILURES_MAX
    assert BAN_S * 1000 <= until_ms - started_ms < (BAN_S + 60) * 1000


def test_guessing_tokens_counts_like_guessing_passwords(node: Node, path: str) -> None:
    guesser = coming_from("2001:db8:1:2::7")
    for number in range(FAILURES_MAX):
        ask(node, "GET", "/api/v4/user", None, {"PRIVATE-TOKEN": f"glpat-{number:020}"} | guesser)
    assert look(node, path, bearer("glpat-x") | guesser).status == 429
    same_network = coming_from("2001:db8:1:2:3::8")
    assert look(node, path, basic("ada", "x") | same_network).status == 429, "one customer has a whole /64"
    assert look(node, path, basic("ada", "x") | coming_from("2001:db8:1:3::7")).status == 401


# Tokens
def ways_of(token: str) -> dict[str, dict[str, str]]:
    """Every way to present a token to Git."""
    return {
        "as password": basic("ada", token),
        "as password of anybody": basic("oauth2", token),
        "as password of nobody": basic("", token),
        "bearer": bearer(token),
    }


def push_of(node: Node, path: str, headers: Mapping[str, str], branch: str) -> Reply:
    tip = commit(_TOP, None, branch)
    body = commands([(f"refs/heads/{branch}", ZERO, tip.oid)]) + pack_of([_FILE, _TOP, tip])
    return post_to(node, path, "git-receive-pack", body, headers)


@pytest.mark.parametrize(
    ("scopes", "may_read", "may_write"),
    [
        ("api", True, True),
        ("write_repository,read_repository", True, True),
        ("read_repository", True, False),
        ("read_api", True, False),
        ("read_user", False, False),
    ],
)
def test_a_scope_means_the_same_however_the_token_is_shown(
    node: Node, path: str, scopes: str, may_read: bool, may_write: bool
) -> None:
    token = node.token(user="ada", scopes=scopes)
    for number, (way, headers) in enumerate(ways_of(token).items()):
        assert (look(node, path, headers).status == 200) is may_read, way
        pushed = push_of(node, path, headers, f"{scopes.replace(',', '-')}-{number}")
        assert ("ok refs/heads/" in pushed.text) is may_write, (way, pushed)
        advertised = look(node, path, headers, "git-receive-pack")
        assert (advertised.status == 200) is may_write, way
        assert pushed.status < 500


def test_a_dead_token_opens_nothing(node: Node, path: str) -> None:
    expired = node.token(user="ada", name="expired")
    with closing(sqlite3.connect(node.data / "mainstay.db", timeout=30)) as database, database:
        database.execute("UPDATE accounts_personalaccesstoken SET expires_at_ms = 1 WHERE name = 'expired'")
    dying = node.token(user="ada", name="dying")
    assert look(node, path, bearer(dying)).status == 200
    own = ask(node, "DELETE", "/api/v4/personal_access_tokens/self", None, {"PRIVATE-TOKEN": dying})
    assert own.status == 204
    for token in (expired, dying):
        for number, headers in enumerate(ways_of(token).values()):
            from_elsewhere = coming_from(f"198.51.100.{number}")
            assert look(node, path, headers | from_elsewhere).status == 401
        assert (
            ask(
                node, "GET", "/api/v4/user", None, {"PRIVATE-TOKEN": token} | coming_from("198.51.100.9")
            ).status
            == 401
        )


def test_who_is_blocked_is_out_by_every_door(node: Node, path: str, tmp_path: Path) -> None:
    bob = person(node, tmp_path / "bob", "bob")
    project = bob.project("own")
    assert look(node, project, bearer(bob.token)).status == 200
    node.run("user", "block", "bob")
    elsewhere = coming_from("198.51.100.20")
    for headers in (*ways_of(bob.token).values(), basic("bob", bob.password)):
        assert look(node, project, headers | elsewhere).status == 401
    assert ask(node, "GET", "/api/v4/user", None, {"PRIVATE-TOKEN": bob.token} | elsewhere).status in {
        401,
        403,
    }
    assert not bob.git.try_("ls-remote", bob.ssh_url(project))


@pytest.mark.parametrize(
    "header",
    [
        "Basic", "Basic !!!", "Basic " + b64encode(b"no colon").decode(), "Digest x", "Bearer", "bearer ",
        "Token x",
        "Basic " + b64encode(b"ada:\xff\xfe").decode(), "Basic " + "A" * 9000,
    ],
)  # fmt: skip
def test_credentials_that_cannot_be_read_open_nothing(node: Node, path: str, header: str) -> None:
    reply = look(node, path, {"Authorization": header} | coming_from("198.51.100.30"))
    assert reply.status in {400, 401, 431}


# What one may not know
def without_traces(reply: Reply, path: str) -> tuple[int, str, dict[str, str]]:
    varying = {"date", "x-request-id", "x-runtime", "content-length"}
    headers = {name.lower(): value for name, value in reply.headers.items() if name.lower() not in varying}
    text = reply.text.replace(path, "X").replace(path.replace("/", "%2F"), "X")
    return reply.status, text.replace(reply.headers.get("x-request-id", "-"), "ID"), headers


@pytest.mark.parametrize("service", ["git-upload-pack", "git-receive-pack"])
@pytest.mark.parametrize("who", ["nobody", "eve"])
def test_a_secret_project_looks_like_none_over_http(
    node: Node, eve: Person, path: str, service: str, who: str
) -> None:
    headers = basic("eve", eve.password) if who == "eve" else {}
    seen, made_up = (
        without_traces(look(node, each, headers, service), each) for each in (path, "ada/nothing")
    )
    assert seen == made_up
    assert seen[0] == (404 if who == "eve" else 401)
    posted = [post_to(node, each, service, b"0000", headers) for each in (path, "ada/nothing")]
    assert without_traces(posted[0], path) == without_traces(posted[1], "ada/nothing")
    assert posted[0].status == seen[0]


@pytest.mark.parametrize(
    "tail", ["", "/repository/branches", "/repository/branches/main", "/members", "/keys"]
)
@pytest.mark.parametrize("who", ["nobody", "eve"])
def test_a_secret_project_looks_like_none_over_the_api(
    node: Node, eve: Person, path: str, tail: str, who: str
) -> None:
    headers = {"PRIVATE-TOKEN": eve.token} if who == "eve" else {}
    answers = []
    for each in (path, "ada/nothing"):
        reply = ask(node, "GET", f"/api/v4/projects/{project_id(each)}{tail}", None, headers)
        answers.append(without_traces(reply, each))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404 if who == "eve" else answers[0][0] in {401, 404}


@pytest.mark.parametrize("service", ["git-upload-pack", "git-receive-pack"])
def test_a_secret_project_looks_like_none_over_ssh(node: Node, eve: Person, path: str, service: str) -> None:
    seen, made_up = (
        eve.git.try_ssh(f"{service} '/{each}.git'", port=node.ssh_port) for each in (path, "ada/nothing")
    )
    assert seen == made_up
    assert seen.code != 0
    assert "repository not found" in seen.err
