"""Git over HTTP: who is answered what, and bodies of every shape, well and ill."""

import gzip
import http.client
import json
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from support.git_client import fsck
from support.node import Node
from support.people import Person, person, project_id

_numbers = count(1)
_FLUSH = b"0000"


def pkt(text: str) -> bytes:
    return f"{len(text) + 4:04x}{text}".encode()


class Http:
    """One connection to the node, for requests that no Git client would make."""

    def __init__(self, node: Node, who: Person | None = None) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=30)
        self.headers: dict[str, str] = {}
        if who:
            pair = b64encode(f"{who.username}:{who.password}".encode()).decode()
            self.headers = {"Authorization": f"Basic {pair}"}

    def __call__(
        self, method: str, path: str, body: Any = None, *, chunked: bool = False, **headers: str
    ) -> http.client.HTTPResponse:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(
            method, path, body=body, headers={**self.headers, **given}, encode_chunked=chunked
        )
        return self.connection.getresponse()


@pytest.fixture(scope="module")
def work(ada: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ada.git.repository(tmp_path_factory.mktemp("http") / "work")


@pytest.fixture
def path(ada: Person, work: Path) -> str:
    """A private project with three commits."""
    path = f"ada/http-{next(_numbers)}"
    ada.git("push", "--quiet", ada.url(path), "main", cwd=work)
    return path


@pytest.fixture
def http_of(node: Node) -> Iterator[Callable[[Person | None], Http]]:
    """Connections of somebody, or of nobody."""
    with ExitStack() as stack:

        def connect(who: Person | None) -> Http:
            client = Http(node, who)
            stack.callback(client.connection.close)
            return client

        yield connect


@pytest.fixture
def http_of_ada(http_of: Callable[[Person | None], Http], ada: Person) -> Http:
    return http_of(ada)


def test_a_wrong_password_is_refused_and_a_token_is_as_good_as_a_password(
    ada: Person, path: str, node: Node
) -> None:
    wrong = ada.git.try_("ls-remote", ada.url(path, secret="wrong"))
    assert not wrong
    assert "Authentication failed" in wrong.err
    assert ada.git.refs(ada.url(path, secret=ada.token))
    assert ada.git.refs(node.clone_url(path, user="oauth2", secret=ada.token))


def test_a_token_without_the_scope_may_not_push(ada: Person, path: str, node: Node, work: Path) -> None:
    reader = node.token(user="ada", scopes="read_repository")
    assert ada.git.refs(ada.url(path, secret=reader))
    refused = ada.git.try_("push", ada.url(path, secret=reader), "main:other", cwd=work)
    assert not refused
    assert "other" not in "".join(ada.git.refs(ada.url(path)))


def test_a_stranger_learns_nothing(eve: Person, ada: Person, path: str, work: Path) -> None:
    seen = eve.git.try_("ls-remote", eve.url(path))
    made_up = eve.git.try_("ls-remote", eve.url("ada/made-up"))
    assert not seen
    assert "repository not found" in seen.err
    assert seen.err.replace(path, "X") == made_up.err.replace("ada/made-up", "X")
    assert "not found" in eve.git.try_("push", eve.url(path), "main", cwd=work).err
    assert "not found" in eve.git.try_("push", eve.url("ada/made-up"), "main", cwd=work).err
    assert ada.api("GET", f"projects/{project_id('ada/made-up')}").status == 404


def test_nobody_is_asked_to_sign_in(http_of: Callable[[Person | None], Http], path: str) -> None:
    client = http_of(None)
    for asked in (path, "ada/made-up"):
        for service in ("git-upload-pack", "git-receive-pack"):
            answer = client("GET", f"/{asked}.git/info/refs?service={service}")
            answer.read()
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith('Basic realm="Mainstay"')


def test_the_public_may_read_what_is_public_and_not_write_it(
    ada: Person, eve: Person, node: Node, work: Path
) -> None:
    path = ada.project(f"http-{next(_numbers)}", visibility="public")
    ada.git("push", "--quiet", ada.url(path), "main", cwd=work)
    assert eve.git.refs(f"{node.url}/{path}.git")
    assert eve.git.refs(f"{node.url}/{path}")
    refused = eve.git.try_("push", eve.url(path), "main:mine", cwd=work)
    assert not refused
    assert "not allowed" in refused.err


def test_who_is_blocked_is_shut_out_at_once(node: Node, work: Path, tmp_path: Path) -> None:
    bob = person(node, tmp_path / "bob", f"bob{next(_numbers)}")
    own = f"{bob.username}/own"
    bob.git("push", "--quiet", bob.url(own), "main", cwd=work)
    node.run("user", "block", bob.username)
    assert "Authentication failed" in bob.git.try_("ls-remote", bob.url(own)).err
    assert "Authentication failed" in bob.git.try_("ls-remote", bob.url(own, secret=bob.token)).err
    assert "Permission denied" in bob.git.try_("ls-remote", bob.ssh_url(own)).err
    node.run("user", "unblock", bob.username)
    assert bob.git.refs(bob.url(own))


def test_the_wire_is_exactly_as_git_documents_it(http_of_ada: Http, path: str) -> None:
    answer = http_of_ada("GET", f"/{path}.git/info/refs?service=git-upload-pack", Git_Protocol="version=2")
    body = answer.read()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-git-upload-pack-advertisement"
    assert answer.headers["Cache-Control"] == "no-cache, max-age=0, must-revalidate"
    assert body.startswith(b"001e# service=git-upload-pack\n0000000eversion 2\n")
    assert body.endswith(_FLUSH)
    head = http_of_ada("HEAD", f"/{path}.git/info/refs?service=git-upload-pack", Git_Protocol="version=2")
    assert (head.status, head.read()) == (200, b"")
    assert head.headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    ("method", "tail", "status"),
    [
        ("GET", "info/refs", 403),
        ("GET", "info/refs?service=git-upload-archive", 403),
        ("GET", "info/refs?service=git-upload-pack&service=git-receive-pack", 400),
        ("GET", "git-upload-pack", 405),
        ("PUT", "git-receive-pack", 405),
        ("POST", "info/refs?service=git-upload-pack", 405),
        ("POST", "git-upload-pack?service=git-receive-pack", 400),
    ],
)
def test_other_ways_of_asking_are_refused(
    http_of_ada: Http, path: str, *, method: str, tail: str, status: int
) -> None:
    answer = http_of_ada(method, f"/{path}.git/{tail}")
    answer.read()
    assert answer.status == status


@pytest.mark.parametrize("service", ["git-upload-pack", "git-receive-pack"])
@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-git-other-request"])
def test_a_post_must_name_its_type(http_of_ada: Http, path: str, service: str, kind: str) -> None:
    answer = http_of_ada("POST", f"/{path}.git/{service}", b"0000", Content_Type=kind)
    answer.read()
    assert answer.status == 415


@pytest.mark.parametrize(
    "tricky", ["ada/../root/x", "ada/%2e%2e/x", "ada//x", "ada/x%00", "ada%2fx/y", "ada/.git", "%61da/x%0a"]
)
def test_tricks_with_paths_are_bad_requests(http_of_ada: Http, tricky: str) -> None:
    answer = http_of_ada("GET", f"/{tricky}/info/refs?service=git-upload-pack")
    answer.read()
    assert answer.status == 400


def test_the_probe_asks_without_doing_anything(
    http_of: Callable[[Person | None], Http], ada: Person, eve: Person, path: str
) -> None:
    for who, status in ((ada, 200), (None, 401), (eve, 404)):
        answer = http_of(who)(
            "POST",
            f"/{path}.git/git-receive-pack",
            _FLUSH,
            Content_Type="application/x-git-receive-pack-request",
        )
        body = answer.read()
        assert answer.status == status
        assert status != 200 or body == b""


def ls_refs(*, packed: bool) -> bytes:
    request = pkt("command=ls-refs\n") + b"0001" + pkt("ref-prefix refs/heads/\n") + _FLUSH
    return gzip.compress(request) if packed else request


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_fetch_request_may_be_packed_and_cut_into_chunks(
    http_of_ada: Http, ada: Person, path: str, *, packed: bool, chunked: bool
) -> None:
    body = ls_refs(packed=packed)
    headers = {
        "Content_Type": "application/x-git-upload-pack-request",
        "Git_Protocol": "version=2",
        **({"Content_Encoding": "gzip"} if packed else {}),
        **({"Transfer_Encoding": "chunked"} if chunked else {}),
    }
    pieces = iter([body[:7], body[7:]]) if chunked else body
    answer = http_of_ada("POST", f"/{path}.git/git-upload-pack", pieces, chunked=chunked, **headers)
    text = answer.read()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-git-upload-pack-result"
    oid = ada.git.refs(ada.url(path))["refs/heads/main"]
    assert text == pkt(f"{oid} refs/heads/main\n") + _FLUSH


def test_truncated_gzip_and_gzip_bombs_are_refused(http_of_ada: Http, path: str) -> None:
    headers = {
        "Content_Type": "application/x-git-upload-pack-request",
        "Git_Protocol": "version=2",
        "Content_Encoding": "gzip",
    }
    address = f"/{path}.git/git-upload-pack"
    truncated = http_of_ada("POST", address, ls_refs(packed=True)[:30], **headers)
    assert (truncated.status, b"ends too early" in truncated.read()) == (400, True)
    prefixes = pkt("ref-prefix refs/heads/" + "x" * 60_000) * 2000
    bomb = gzip.compress(pkt("command=ls-refs\n") + b"0001" + prefixes + _FLUSH)
    answer = http_of_ada("POST", address, bomb, **headers)
    assert (answer.status, b"unpacks to more than" in answer.read()) == (413, True)


def receive_request(old: str, new: str, ref: str) -> bytes:
    return pkt(f"{old} {new} {ref}\0report-status side-band-64k") + _FLUSH


@pytest.mark.parametrize("packed", [False, True])
def test_a_push_body_may_be_packed(
    http_of_ada: Http, ada: Person, work: Path, path: str, *, packed: bool
) -> None:
    """As JGit does it."""
    commit = ada.git("rev-parse", "main", cwd=work)
    pack = subprocess.run(
        ["git", "pack-objects", "--stdout", "--revs"],
        input=b"",
        cwd=work,
        check=True,
        capture_output=True,
    ).stdout
    body = receive_request("0" * 40, commit, "refs/heads/by-hand") + pack
    headers = {
        "Content_Type": "application/x-git-receive-pack-request",
        **({"Content_Encoding": "gzip"} if packed else {}),
    }
    answer = http_of_ada(
        "POST", f"/{path}.git/git-receive-pack", gzip.compress(body) if packed else body, **headers
    )
    text = answer.read()
    assert answer.status == 200
    assert b"unpack ok" in text
    assert b"ok refs/heads/by-hand" in text
    assert ada.git.refs(ada.url(path))["refs/heads/by-hand"] == commit


def test_a_push_that_is_cut_off_changes_nothing(
    http_of: Callable[[Person | None], Http], ada: Person, *, work: Path, path: str, tmp_path: Path
) -> None:
    before = ada.git.refs(ada.url(path))
    client = http_of(ada)
    body = receive_request("0" * 40, before["HEAD"], "refs/heads/half")
    client.connection.putrequest("POST", f"/{path}.git/git-receive-pack")
    for name, value in {
        **client.headers,
        "Content-Type": "application/x-git-receive-pack-request",
        "Content-Length": "100000",
    }.items():
        client.connection.putheader(name, value)
    client.connection.endheaders(body + b"PACK\0\0\0\x02")
    client.connection.close()
    ada.git("push", "--quiet", ada.url(path), "main:whole", cwd=work)
    assert set(ada.git.refs(ada.url(path))) == {*before, "refs/heads/whole"}
    ada.git("clone", "--quiet", ada.url(path), tmp_path / "clone")
    fsck(ada.git, tmp_path / "clone")


def test_every_request_leaves_one_line_and_no_secret(node: Node, ada: Person, path: str) -> None:
    ada.git("ls-remote", ada.url(path))
    lines = [line for line in node.log_lines() if line.get("event") == "githttp.answered"]
    line = [line for line in lines if line["project"] == path and line["status"] == 200][-1]
    assert line["actor"].startswith("user:")
    assert line["request_id"]
    assert line["duration_ms"] > 0
    text = json.dumps(lines)
    assert ada.password not in text
    assert ada.token not in text


def test_a_deploy_token_reads_and_does_not_write(ada: Person, work: Path, path: str) -> None:
    made = ada.must(
        "POST",
        f"projects/{project_id(path)}/deploy_tokens",
        {"name": "reader", "scopes": ["read_repository"]},
    )
    url = ada.node.clone_url(path, user=made["username"], secret=made["token"])
    assert ada.git.refs(url)
    assert not ada.git.try_("push", url, "main:other", cwd=work)
    elsewhere = f"ada/http-{next(_numbers)}"
    ada.git("push", "--quiet", ada.url(elsewhere), "main", cwd=work)
    other = ada.node.clone_url(elsewhere, user=made["username"], secret=made["token"])
    assert "not found" in ada.git.try_("ls-remote", other).err
