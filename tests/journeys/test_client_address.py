"""Who the client is, in all the ways to a node: balancers, PROXY headers, TLS here and there, and liars.

On loopback every address 127.x is this machine, so: balancers speak from 127.0.0.1 and send PROXY headers
from 127.0.0.2, people come from 127.0.0.9 and 127.0.0.8, strangers that go past the balancer from 127.0.0.7.
"""

import http.client
import json
import re
import shlex
import socket
import sqlite3
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mainstay.provision.balancers.description import BalancedNode, Balancer, ProxyProtocol, Tls
from support.balancers import Program, balancing
from support.certificates import make_certificate
from support.git_client import GitClient
from support.node import Node
from support.people import Person, person
from support.ports import free_port
from support.raw_http import basic
from support.servers import program, scratch_directory, wait_until

pytestmark = pytest.mark.xdist_group("client-address")

ANNOUNCER, CLIENT, OTHER_CLIENT, STRANGER = "127.0.0.2", "127.0.0.9", "127.0.0.8", "127.0.0.7"
PROJECT = "ada/engine"
REFS = f"/{PROJECT}.git/info/refs?service=git-upload-pack"
SITE = "https://git.example.test"
V2_MAGIC = b"\r\n\r\n\0\r\nQUIT\n"
LIES = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.test",
    "X-Real-IP": "6.6.6.6",
    "Forwarded": "for=6.6.6.6;proto=http;host=evil.test",
    "X-Mainstay-Client-Address": "6.6.6.6",
    "X-Mainstay-Scheme": "gopher",
    "X-Mainstay-Raw-Path": "/evil",
}


@dataclass
class Site:
    """A node behind balancers, and what its doors are called."""

    node: Node
    ada: Person
    certificate: Path
    key: Path

    def port(self, door: str) -> int:
        settings = json.loads((self.node.data / "run" / "settings.json").read_text())
        return int(settings[door].rpartition(":")[2])

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def request_line(self, request_id: str) -> dict[str, Any]:
        """What the log says of a request."""
        found: list[dict[str, Any]] = []

        def looked() -> bool:
            found[:] = [line for line in self.node.log_lines() if line.get("request_id") == request_id]
            return any(line["event"] == "githttp.answered" for line in found)

        wait_until(looked, timeout_s=20, what=f"the log line of {request_id}")
        return next(line for line in found if line["event"] == "githttp.answered")

    def last_push(self) -> dict[str, Any]:
        """What the ledger keeps of the last push."""
        with sqlite3.connect(f"file:{self.node.data / 'mainstay.db'}?mode=ro", uri=True) as ledger:
            (details,) = ledger.execute(
                "SELECT details FROM ledger_change WHERE kind = 'push' ORDER BY at_ms DESC, rowid DESC"
            ).fetchone()
        ledger.close()
        return json.loads(details)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("site")
    certificate, key = make_certificate(place / "tls")
    environment = {
        "MAINSTAY_TRUSTED_PROXIES": "127.0.0.1,127.0.0.2",
        "MAINSTAY_PROXY_PROTOCOL": ANNOUNCER,
        "MAINSTAY_MONITORING_ALLOWLIST": "127.0.0.1,127.0.0.2",
        "MAINSTAY_HTTPS": "127.0.0.1:0",
        "MAINSTAY_HEALTH": "127.0.0.1:0",
        "MAINSTAY_TLS_CERTIFICATE": str(certificate),
        "MAINSTAY_TLS_KEY": str(key),
        "MAINSTAY_EXTERNAL_URL": SITE,
        "MAINSTAY_EXTERNAL_SSH": "git.example.test:22",
    }
    with Node(place / "data", environment=environment) as node:
        ada = person(node, place / "ada", "ada")
        ada.project("engine")
        yield Site(node, ada, certificate, key)
        assert node.stop() == 0, node.log_end()  # with all its doors


def get(
    port: int, path: str, *, source: str = CLIENT, tls: ssl.SSLContext | None = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=tls, source_address=(source, 0))
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
    )
    try:
        connection.request(
            "GET", path, headers={name.replace("_", "-"): each for name, each in headers.items()}
        )
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def refs_through(
    site: Site, port: int, *, source: str = CLIENT, tls: ssl.SSLContext | None = None, **headers: str
) -> str:
    """Ask for refs, signed in; returns the address that the node has written down."""
    signed = basic("ada", site.ada.password)
    answer, body = get(port, REFS, source=source, tls=tls, **signed, **headers)
    assert answer.status == 200, body
    return str(site.request_line(answer.headers["x-request-id"])["address"])


WAYS: list[tuple[Program, Tls, ProxyProtocol]] = [
    ("haproxy", "off", "v2"),
    ("haproxy", "balancer", "v1"),
    ("haproxy", "node", "v1"),
    ("haproxy", "node", "v2"),
    ("haproxy", "both", "v2"),
    ("nginx", "off", "v1"),
    ("nginx", "balancer", "v1"),
    ("nginx", "node", "v1"),
    ("nginx", "both", "v1"),
]


@pytest.mark.parametrize(("kind", "tls", "version"), WAYS)
def test_the_client_is_known_behind_every_balancer(
    site: Site, tmp_path: Path, kind: Program, tls: Tls, version: ProxyProtocol
) -> None:
    with scratch_directory("mainstay-lb-") as directory:
        pem = directory / "site.pem"
        pem.write_text(site.certificate.read_text() + site.key.read_text())
        balancer = Balancer(
            nodes=(_described(site),),
            tls=tls,
            certificate=str(pem),
            certificate_key=str(site.key),
            node_authority=str(site.certificate),
            server_name="localhost",
            listen=("127.0.0.1",),
            http_port=free_port(),
            https_port=free_port(),
            ssh_port=free_port(),
            proxy_protocol=version,
            directory=str(directory),
        )
        with balancing(balancer, kind, directory, announces_from=ANNOUNCER):
            _http_works(site, balancer)
            _git_works(site, balancer, tmp_path)


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_the_configuration_is_made_of_what_the_cluster_knows(site: Site, kind: str) -> None:
    program(kind)
    printed = site.node.run("lb", kind, "--tls", "node").stdout
    for door in ("https", "ssh"):
        assert re.search(rf"server .*127\.0\.0\.1:{site.port(door)} ", printed)
    assert (f"127.0.0.1:{site.port('health')}" in printed) == (kind == "haproxy")
    said = site.node.run("lb", kind, "--tls", "node", "--check", "--directory", str(site.node.data)).stdout
    assert re.search("valid|successful", said)
    refused = site.node.run("lb", kind, "--tls", "balancer", check=False)
    assert refused.returncode == 2
    assert "--certificate FILE" in refused.stderr


def _described(site: Site) -> BalancedNode:
    ports = {door: site.port(door) for door in ("http", "https", "ssh", "health")}
    return BalancedNode(name="n1", host="127.0.0.1", **ports)


def _http_works(site: Site, balancer: Balancer) -> None:
    secure = balancer.tls != "off"
    port = balancer.https_port if secure else balancer.http_port
    trusting = site.trusting() if secure else None
    assert refs_through(site, port, tls=trusting, **LIES) == CLIENT
    token = {"PRIVATE-TOKEN": site.ada.token}
    _, body = get(port, "/api/v4/projects/ada%2Fengine", tls=trusting, **token, **LIES)
    links = json.loads(body)
    assert links["http_url_to_repo"] == f"{SITE}/ada/engine.git"
    assert links["ssh_url_to_repo"] == "git@git.example.test:ada/engine.git"
    if secure:
        answer, _ = get(balancer.http_port, "/ada/engine?x=1", Host="git.example.test")
        assert answer.status == 301
        assert answer.headers["location"] == f"{SITE}:{port}/ada/engine?x=1"


def _git_works(site: Site, balancer: Balancer, place: Path) -> None:
    """A push and a clone, over HTTP and SSH, with real git."""
    scheme, port = ("http", balancer.http_port) if balancer.tls == "off" else ("https", balancer.https_port)
    web = f"{scheme}://ada:{site.ada.password}@localhost:{port}/ada/{place.name}.git"
    git = site.ada.git
    git.environment["GIT_SSL_CAINFO"] = str(site.certificate)
    work = git.repository(place / "work")
    git("push", web, "HEAD:refs/heads/main", cwd=work)
    over_ssh = GitClient(place / "home", git.key)
    over_ssh.environment["GIT_SSH_COMMAND"] = shlex.join([*over_ssh.ssh, "-b", CLIENT])
    there = f"ssh://git@127.0.0.1:{balancer.ssh_port}/ada/{place.name}.git"
    over_ssh("push", there, "HEAD:refs/heads/other", cwd=work)
    assert site.last_push()["address"] == CLIENT
    assert [line["address"] for line in site.node.log_lines() if line["event"] == "ssh.answered"][
        -1
    ] == CLIENT
    over_ssh("clone", there, place / "copy")
    assert over_ssh("rev-parse", "HEAD", cwd=place / "copy") == git("rev-parse", "HEAD", cwd=work)


def test_a_ban_meets_the_client_and_not_the_balancer(site: Site) -> None:
    with scratch_directory("mainstay-lb-") as directory:
        balancer = Balancer(
            nodes=(_described(site),),
            listen=("127.0.0.1",),
            http_port=free_port(),
            ssh_port=0,
            directory=str(directory),
        )
        with balancing(balancer, "haproxy", directory):
            wrong = basic("ada", "glpat-wrong")
            for _ in range(12):
                get(balancer.http_port, REFS, source=OTHER_CLIENT, **wrong)
            signed = basic("ada", site.ada.password)
            assert get(balancer.http_port, REFS, source=OTHER_CLIENT, **signed)[0].status == 429
            assert get(balancer.http_port, REFS, source=CLIENT, **signed)[0].status == 200


@pytest.mark.parametrize("secure", [False, True])
def test_a_stranger_is_not_believed(site: Site, secure: bool) -> None:
    port = site.port("https" if secure else "http")
    tls = site.trusting() if secure else None
    assert refs_through(site, port, source=STRANGER, tls=tls, **LIES) == STRANGER
    claims = {"X-Forwarded-For": "127.0.0.1", "X-Mainstay-Client-Address": "127.0.0.1"}
    assert get(port, "/-/readiness", source=STRANGER, tls=tls, **claims)[0].status == 404
    _, body = get(port, "/ada/engine?go-get=1", source=STRANGER, tls=tls, **LIES)
    assert b"git.example.test" in body
    assert b"evil" not in body


def test_of_two_headers_only_what_our_proxy_wrote_last_counts(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port("http")), 20, ("127.0.0.1", 0)) as line:
        auth = basic("ada", site.ada.password)["Authorization"]
        line.sendall(
            f"GET {REFS} HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\nConnection: close\r\n"
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7, ::ffff:192.0.2.9\r\n"
            "X-Request-Id: two-headers\r\n\r\n".encode()
        )
        assert line.makefile("rb").read().startswith(b"HTTP/1.1 200")
    assert site.request_line("two-headers")["address"] == "192.0.2.9"


def v1(source: str = "192.0.2.7") -> bytes:
    return f"PROXY TCP4 {source} 10.0.0.1 5555 22\r\n".encode()


def v2(source: str = "192.0.2.7", command: int = 0x21, extras: bytes = b"") -> bytes:
    rest = socket.inet_aton(source) + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 5555, 22) + extras
    return V2_MAGIC + struct.pack("!BBH", command, 0x11, len(rest)) + rest


def answer_of(port: int, source: str, *pieces: bytes) -> bytes:
    """Everything that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), 20, (source, 0)) as line:
        got = b""
        try:
            for piece in pieces:
                line.sendall(piece)
            line.settimeout(20)
            while more := line.recv(65536):
                got += more
        except ConnectionError:
            pass
        return got


def asking(site: Site, request_id: str, *headers: str) -> bytes:
    auth = basic("ada", site.ada.password)["Authorization"]
    lines = [f"GET {REFS} HTTP/1.1", "Host: x", f"Authorization: {auth}", "Connection: close", *headers]
    return "\r\n".join([*lines, f"X-Request-Id: {request_id}", "", ""]).encode()


def address_in(site: Site, answer: bytes) -> str:
    found = re.search(rb"x-request-id: (\S+)", answer, re.IGNORECASE)
    assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
    assert found
    return str(site.request_line(found[1].decode())["address"])


@pytest.mark.parametrize("header", [v1(), v2(), v2(extras=b"\x04\0\x03abc")], ids=["v1", "v2", "extras"])
def test_an_announced_client_is_the_peer(site: Site, header: bytes) -> None:
    port = site.port("http")
    whole = answer_of(port, ANNOUNCER, header + asking(site, "a"))
    assert address_in(site, whole) == "192.0.2.7"
    request = asking(site, "a")
    in_bytes = answer_of(port, ANNOUNCER, *(header[at : at + 1] for at in range(len(header))), request)
    assert address_in(site, in_bytes) == "192.0.2.7"
    lying = answer_of(port, ANNOUNCER, header + asking(site, "a", "X-Forwarded-For: 6.6.6.6"))
    assert address_in(site, lying) == "192.0.2.7"


def test_an_announced_proxy_of_ours_is_believed_in_turn(site: Site) -> None:
    request = asking(site, "chain", "X-Forwarded-For: 6.6.6.6, 198.51.100.7")
    answer = answer_of(site.port("http"), ANNOUNCER, v2("127.0.0.1") + request)
    assert address_in(site, answer) == "198.51.100.7"


@pytest.mark.parametrize("header", [v2(command=0x20), b"PROXY UNKNOWN\r\n"], ids=["LOCAL", "UNKNOWN"])
def test_a_proxy_that_speaks_for_itself_is_the_peer(site: Site, header: bytes) -> None:
    answer = answer_of(site.port("http"), ANNOUNCER, header + asking(site, "local"))
    assert address_in(site, answer) == ANNOUNCER
    assert answer_of(site.port("ssh"), ANNOUNCER, header, b"x\r\n").startswith(b"SSH-2.0-Mainstay")


@pytest.mark.parametrize("door", ["http", "https", "ssh"])
@pytest.mark.parametrize(
    "start",
    [
        b"GET /-/readiness HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PROXY TCP4 999.0.2.7 10.0.0.1 5555 22\r\n",
        v2(command=0x22),
        V2_MAGIC + b"\x21\x11\xff\xff",
        b"",
    ],
    ids=["http", "ssh", "tls", "no-address", "no-command", "endless", "nothing"],
)
def test_who_must_announce_and_does_not_is_cut_off(site: Site, door: str, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", site.port(door)), 20, (ANNOUNCER, 0)) as line:
        try:
            line.sendall(start)
            if not start:
                line.shutdown(socket.SHUT_WR)
            assert line.recv(1000) == b""
        except ConnectionError:
            return


@pytest.mark.parametrize("header", [v1("127.0.0.1"), v2("127.0.0.1")], ids=["v1", "v2"])
def test_a_stranger_announces_nothing(site: Site, header: bytes) -> None:
    """To HTTP it is a bad request, to TLS a bad handshake, to SSH a bad version."""
    request = b"GET /-/readiness HTTP/1.1\r\nHost: x\r\n\r\n"
    assert answer_of(site.port("http"), STRANGER, header + request).startswith(b"HTTP/1.1 400")
    assert b"HTTP" not in answer_of(site.port("https"), STRANGER, header + request)
    said = answer_of(site.port("ssh"), STRANGER, header + b"SSH-2.0-x\r\n")
    assert said.count(b"SSH-2.0-") <= 1
    assert len(said) < 400  # the server's version and key exchange at most, and then nothing


def test_the_health_port_is_plain_and_serves_nothing_else(site: Site) -> None:
    port = site.port("health")
    assert get(port, "/-/readiness", source=ANNOUNCER)[0].status == 200
    assert get(port, "/-/metrics", source="127.0.0.1")[0].status == 200
    assert get(port, "/-/readiness", source=STRANGER)[0].status == 404
    assert get(port, "/-/readiness", source=STRANGER, X_Forwarded_For="127.0.0.1")[0].status == 404
    for path in ("/", "/api/v4/version", REFS):
        assert get(port, path, source=ANNOUNCER)[0].status == 404
    assert answer_of(port, ANNOUNCER, v1() + b"GET /-/readiness HTTP/1.1\r\nHost: x\r\n\r\n").startswith(
        b"HTTP/1.1 400"
    )
    assert site.node.state()["phase"] == "ready"


def test_a_new_certificate_is_used_without_a_restart_and_a_broken_one_is_not(site: Site) -> None:
    first = _certificate_at(site)
    make_certificate(site.certificate.parent)
    second = site.certificate.read_text()
    wait_until(lambda: _certificate_at(site) == second, timeout_s=20, what="the new certificate is served")
    whole = site.key.read_bytes()
    site.key.write_bytes(b"rubbish")

    def is_noticed() -> bool:
        assert _certificate_at(site) in (first, second)  # each process of the node looks for itself
        return any(line["event"] == "boot.certificate_not_replaced" for line in site.node.log_lines())

    wait_until(is_noticed, timeout_s=20, what="the broken key is noticed")
    site.key.write_bytes(whole)


def _certificate_at(site: Site) -> str:
    return ssl.get_server_certificate(("127.0.0.1", site.port("https")), timeout=20)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_of_tls_are_refused(site: Site, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", site.port("https")), 20) as line,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(line)


@pytest.mark.parametrize(
    ("certificate", "key", "sentence"),
    [
        ("", "", "needs tls_certificate and tls_key"),
        ("nowhere.pem", "key.pem", "cannot read"),
        ("cert.pem", "other/key.pem", "is not the key of"),
        ("key.pem", "key.pem", "no PEM certificate"),
    ],
)
def test_a_node_with_an_unusable_certificate_says_why_it_does_not_start(
    tmp_path: Path, certificate: str, key: str, sentence: str
) -> None:
    make_certificate(tmp_path)
    make_certificate(tmp_path / "other")
    node = Node(
        tmp_path / "node",
        environment={
            "MAINSTAY_HTTPS": "127.0.0.1:0",
            "MAINSTAY_TLS_CERTIFICATE": str(tmp_path / certificate) if certificate else "",
            "MAINSTAY_TLS_KEY": str(tmp_path / key) if key else "",
        },
    )
    node.launch()
    assert node.wait_until_ended() == 2
    assert sentence in node.log_end()
