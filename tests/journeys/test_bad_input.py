"""Requests that are broken, lying or sly: each is refused clearly, and nothing changes."""

import gzip
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType

import pytest

from support.aftermath import Standing, check_unharmed, standing_of
from support.bombs import raw_tree, relabelled, sealed, tag, thin, with_header
from support.git_client import fsck
from support.node import Node
from support.people import Person, person, project_id
from support.raw_http import Reply, ask, basic, commands, post_to
from support.raw_push import ZERO, RawObject, blob, commit, pack_of, pkt, tree

SERVICES = ("git-upload-pack", "git-receive-pack")
MISSING = "1" * 40

_FILE = blob(b"pushed\n")
_TIP = commit(tree({"file": _FILE}), None, "Pushed")
A_PUSH = commands([("refs/heads/x", ZERO, _TIP.oid)]) + pack_of([_FILE, tree({"file": _FILE}), _TIP])

NOTHING: Mapping[str, str] = MappingProxyType({})
_numbers = count(1)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("abused") / "data") as node:
        yield node


@pytest.fixture(scope="module")
def ada(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return person(node, tmp_path_factory.mktemp("ada"), "ada")


@pytest.fixture(scope="module")
def work(ada: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ada.git.repository(tmp_path_factory.mktemp("work") / "work")


@pytest.fixture
def path(ada: Person, work: Path) -> str:
    """A private project with three commits on main."""
    path = f"ada/abused-{next(_numbers)}"
    ada.git("push", "--quiet", ada.url(path), "main", cwd=work)
    return path


@dataclass(frozen=True)
class Target:
    """A project of Ada, and how it was before the test."""

    ada: Person
    path: str
    before: Standing

    @property
    def node(self) -> Node:
        return self.ada.node

    @property
    def tip(self) -> str:
        (_, oid), *_ = self.before.ledger["refs"]
        return bytes(oid).hex()

    def ask(self, method: str, path: str, headers: Mapping[str, str] = NOTHING, body: bytes = b"") -> Reply:
        return ask(self.node, method, path, body, {**basic("ada", self.ada.password), **headers})

    def post(self, service: str, body: bytes, headers: Mapping[str, str] = NOTHING) -> Reply:
        signed_in = basic("ada", self.ada.password)
        return post_to(self.node, self.path, service, body, {**signed_in, **headers})

    def push(self, tip: str, pack: bytes, ref: str = "refs/heads/x") -> str:
        reply = self.post("git-receive-pack", commands([(ref, ZERO, tip)]) + pack)
        assert reply.status == 200
        return reply.text

    def check_unharmed(self) -> None:
        check_unharmed(self.node, self.before)


@pytest.fixture(scope="module")
def unharmed_path(ada: Person, work: Path) -> str:
    """One project for all that is refused: nothing of it may ever change."""
    ada.git("push", "--quiet", ada.url("ada/unharmed"), "main", cwd=work)
    return "ada/unharmed"


@pytest.fixture
def target(ada: Person, unharmed_path: str) -> Target:
    return Target(ada, unharmed_path, standing_of(ada.node, unharmed_path))


# Packets
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "packets",
    [
        b"zzzz",
        b"+0f1",
        b"1_00",
        b"-001",
        b" 1  ",
        b"0x1f",
        b"988\n",
        b"0003",
        b"fff1" + bytes(65517),
        b"ffff",
        b"0002",
    ],
)
def test_malformed_packets_are_named(target: Target, service: str, packets: bytes) -> None:
    reply = target.post(service, packets)
    assert reply.status in {200, 400}
    assert re.search("packet length|protocol error|too short|delimiter|response", reply.text), reply.text
    assert "unpack ok" not in reply.text
    target.check_unharmed()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("packets", [b"0", b"003", b"0040want", b"0015command=ls-refs\n00"])
def test_truncated_packets_change_nothing(target: Target, service: str, packets: bytes) -> None:
    reply = target.post(service, packets, {"Git-Protocol": "version=2"})
    assert reply.status in {200, 400}
    assert "ok" not in reply.text
    target.check_unharmed()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("packets", ["zzzz", "+0f1", "1_00", "0003", "ffff", "00", "0099truncated"])
def test_malformed_packets_over_ssh_end_the_conversation(target: Target, service: str, packets: str) -> None:
    command = f"{service} '/{target.path}.git'"
    done = target.ada.git.try_ssh(command, port=target.node.ssh_port, input_text=packets)
    assert "ok refs" not in done.out
    target.check_unharmed()


@pytest.mark.parametrize(
    "line",
    [
        b"not a command",
        f"{ZERO} {ZERO[1:]} refs/heads/x".encode(),
        f"{ZERO} {'A' * 40} refs/heads/x".encode(),
        f"{ZERO} {MISSING}  refs/heads/x\0report-status\0more".encode(),
        f"{ZERO} {MISSING} refs/heads/{'x' * 5000}".encode(),
        b"push-cert\0report-status",
        b"shallow 123",
    ],
)
def test_lines_that_are_no_commands_are_quoted_back(target: Target, line: bytes) -> None:
    reply = target.post("git-receive-pack", pkt(line) + b"0000")
    assert reply.status == 200
    assert reply.text[4:8] == "ERR "
    target.check_unharmed()


# Addresses, services, bodies
@pytest.mark.parametrize(
    ("method", "tail", "kind", "status"),
    [
        ("GET", "info/refs", "", 403),
        ("GET", "info/refs?service=git-foo", "", 403),
        ("GET", "info/refs?service=git-upload-archive", "", 403),
        ("GET", "info/refs?service=git-upload-pack&service=git-receive-pack", "", 400),
        ("PUT", "info/refs?service=git-upload-pack", "", 405),
        ("GET", "git-receive-pack", "", 405),
        ("DELETE", "git-receive-pack", "", 405),
        ("POST", "git-receive-pack", "text/plain", 415),
        ("POST", "git-receive-pack", "application/x-git-upload-pack-request", 415),
        ("POST", "git-upload-pack", "application/x-git-receive-pack-request", 415),
        ("POST", "git-receive-pack?service=git-upload-pack", "application/x-git-receive-pack-request", 400),
        ("POST", "git-upload-pack?service=git-receive-pack", "application/x-git-upload-pack-request", 400),
    ],
)
def test_a_service_has_one_address_one_method_and_one_type(
    target: Target,
    method: str,
    tail: str,
    kind: str,
    status: int,
) -> None:
    reply = target.ask(method, f"/{target.path}.git/{tail}", {"Content-Type": kind}, b"0000")
    assert reply.status == status
    assert reply.text.strip()
    assert reply.headers["content-type"].startswith("text/plain")
    target.check_unharmed()


def test_a_fetch_request_may_not_be_huge(
    target: Target,
) -> None:
    promised = {"Content-Length": str(65 << 20), "Expect": "100-continue"}
    assert target.post("git-upload-pack", b"", promised).status == 413
    packed = gzip.compress(pkt(f"want {MISSING}\n".encode()) * 1_400_000, compresslevel=1)
    reply = target.post("git-upload-pack", packed, {"Content-Encoding": "gzip"})
    assert (reply.status, "times its size" in reply.text) == (413, True)
    target.check_unharmed()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(A_PUSH, id="no gzip"),
        pytest.param(gzip.compress(A_PUSH)[:-9], id="cut"),
        pytest.param(gzip.compress(A_PUSH) + b"more", id="more behind"),
        pytest.param(gzip.compress(A_PUSH)[:-5] + b"xxxxx", id="wrong checksum"),
    ],
)
@pytest.mark.parametrize("service", SERVICES)
def test_broken_gzip_is_refused(target: Target, service: str, body: bytes) -> None:
    reply = target.post(service, body, {"Content-Encoding": "gzip"})
    assert reply.status == 400 or b"ERR" in reply.body
    target.check_unharmed()


def test_a_gzip_bomb_of_a_push_is_refused(
    target: Target,
) -> None:
    start = commands([("refs/heads/x", ZERO, MISSING)]) + b"PACK\0\0\0\2\0\0\0\1"
    body = gzip.compress(start + bytes(400 << 20), compresslevel=1)
    reply = target.post("git-receive-pack", body, {"Content-Encoding": "gzip"})
    assert reply.status == 413 or "ng refs/heads/x" in reply.text
    target.check_unharmed()


@pytest.mark.parametrize("value", ["-1", "+5", "1e3", "0x10", "", "99999999999999999999"])
def test_a_content_length_that_is_no_length_is_refused(target: Target, value: str) -> None:
    reply = target.post("git-receive-pack", b"", {"Content-Length": value, "Expect": "100-continue"})
    assert reply.status in {400, 411, 413}
    target.check_unharmed()


# Packs
def a_commit(parent: str | None = None) -> tuple[list[RawObject], str]:
    file = blob(b"new %d\n" % next(_numbers))
    top = tree({"file": file})
    tip = commit(top, parent, "New")
    return [file, top, tip], tip.oid


def broken_packs() -> list[tuple[str, bytes]]:
    objects = [_FILE, tree({"file": _FILE}), _TIP]
    good = pack_of(objects)
    flipped = bytearray(good)
    flipped[20] ^= 0x55
    cuts = [4, 11, 12, 13, 20, len(good) // 2, len(good) - 21, len(good) - 20, len(good) - 1]
    return [
        *((f"cut at {cut}", good[:cut]) for cut in cuts),
        ("flipped", bytes(flipped)),
        ("flipped with a right checksum", sealed(bytes(flipped[:-20]))),
        ("wrong checksum", good[:-20] + bytes(20)),
        ("one object less", relabelled(good, objects=2)),
        ("one object more", relabelled(good, objects=4)),
        ("four thousand million objects", relabelled(good, objects=0xFFFFFFFF)),
        ("ten million objects", relabelled(good, objects=10_000_000)),
        ("no objects", relabelled(good, objects=0)),
        ("version 3", relabelled(good, version=3)),
        ("version 4", relabelled(good, version=4)),
        ("thin without its base", thin(MISSING, b"result")),
        ("nothing", b""),
        ("no pack", b"GET / HTTP/1.1\r\n\r\n"),
    ]


@pytest.mark.parametrize("what", [name for name, _ in broken_packs()])
def test_a_broken_pack_is_refused_with_the_reason(target: Target, what: str) -> None:
    pack = dict(broken_packs())[what]
    said = target.push(MISSING, pack)
    assert "ng refs/heads/x unpacker error" in said
    assert "unpack ok" not in said
    target.check_unharmed()


def test_an_empty_pack_does_not_make_a_missing_object_appear(
    target: Target,
) -> None:
    assert "ng refs/heads/x missing necessary objects" in target.push(MISSING, pack_of([]))
    target.check_unharmed()


@pytest.mark.parametrize("more", [b"garbage", pack_of([_FILE])])
def test_what_stands_behind_a_pack_is_not_stored(ada: Person, path: str, more: bytes) -> None:
    """Git ignores it, too."""
    target = Target(ada, path, standing_of(ada.node, path))
    objects, tip = a_commit()
    assert "ok refs/heads/x" in target.push(tip, pack_of(objects) + more)
    assert target.node.run("fsck").returncode == 0


def wicked() -> dict[str, tuple[list[RawObject], str]]:
    file = blob(b"content\n")
    inner = tree({"file": file})
    regular, link = b"100644", b"120000"
    modules = blob(b'[submodule "x"]\n\tpath = -u./payload\n\turl = -u./payload\n')
    dotted = blob(b'[submodule "../../hooks"]\n\tpath = a\n\turl = https://example.org/x\n')

    def holding(*entries: tuple[bytes, bytes, str]) -> tuple[list[RawObject], str]:
        top = raw_tree(entries)
        tip = commit(top, None, "Wicked")
        return [file, inner, modules, dotted, top, tip], tip.oid

    honest = commit(inner, None, "Honest")
    with_nul = with_header(honest, b"gpgsig x\0y")
    nameless = RawObject("commit", honest.content.replace(b"author Ada <ada@example.org>", b"author Ada"))
    return {
        "a parent directory": holding((b"40000", b"..", inner.oid)),
        "a dot": holding((b"40000", b".", inner.oid)),
        ".git": holding((b"40000", b".git", inner.oid)),
        ".GIT": holding((b"40000", b".GIT", inner.oid)),
        "git~1": holding((b"40000", b"git~1", inner.oid)),
        ".git with a joiner": holding((b"40000", ".g\u200cit".encode(), inner.oid)),
        "a path in a name": holding((regular, b"a/b", file.oid)),
        "no name": holding((regular, b"", file.oid)),
        "twice the same": holding((regular, b"a", file.oid), (regular, b"a", file.oid)),
        "not sorted": holding((regular, b"b", file.oid), (regular, b"a", file.oid)),
        ".gitmodules as a link": holding((link, b".gitmodules", file.oid)),
        ".gitmodules with an option": holding((regular, b".gitmodules", modules.oid)),
        ".gitmodules that climbs": holding((regular, b".gitmodules", dotted.oid)),
        "a NUL in a header": ([file, inner, with_nul], with_nul.oid),
        "an author without address": ([file, inner, nameless], nameless.oid),
        "a tree that is a blob": holding((b"40000", b"a", file.oid)),
    }  # fmt: skip


@pytest.mark.parametrize("what", list(wicked()))
def test_wicked_objects_are_refused(target: Target, what: str) -> None:
    objects, tip = wicked()[what]
    said = target.push(tip, pack_of(objects))
    assert re.search("ng refs/heads/x (unpacker error|missing necessary)", said), said
    target.check_unharmed()


def test_a_branch_holds_commits_and_a_tag_what_is_there(
    target: Target,
) -> None:
    file, dangling = blob(b"file\n"), tag(MISSING)
    assert "non-commit object to a branch" in target.push(file.oid, pack_of([file]))
    said = target.push(dangling.oid, pack_of([dangling]), "refs/tags/v1")
    assert "ng refs/tags/v1" in said
    target.check_unharmed()


# Refs
_ODD_NAMES = (
    "--output=x",
    "-h",
    "$(id)",
    "a;b",
    "<script>",
    "a'b",
    'a"b',
    "a|b&c",
    "ä/ö",
    "%2e%2e",
    "-/-",
    "@",
    "HEAD",
)


def test_odd_names_that_git_allows_work_everywhere(
    ada: Person, work: Path, path: str, tmp_path: Path
) -> None:
    node, project = ada.node, f"projects/{project_id(path)}"
    tip = ada.git("rev-parse", "main", cwd=work)
    names = {f"refs/heads/{name}": name for name in _ODD_NAMES}

    def held() -> set[str]:
        return {ref for ref, oid in ada.git.refs(ada.url(path)).items() if ref in names and oid == tip}

    ada.git("push", "--quiet", ada.url(path), *(f"{tip}:{ref}" for ref in names), cwd=work)
    assert held() == names.keys()
    assert {branch["name"] for branch in ada.must("GET", f"{project}/repository/branches")} >= {*_ODD_NAMES}
    for number, (ref, name) in enumerate(names.items()):
        clone = tmp_path / str(number)
        ada.git("clone", "--quiet", "--bare", f"--branch={name}", ada.url(path), clone)
        one = f"{project}/repository/branches/{project_id(name)}"
        assert ada.must("GET", one)["commit"]["id"] == tip
        ada.must("DELETE", one)
        assert ref not in held()
        assert node.run("repo", "reflog", path, ref).stdout.count(tip[:12])
        node.run("repo", "restore-ref", path, ref)
        assert ref in held()
    fsck(ada.git, clone)
    ada.git("push", "--quiet", ada.ssh_url(path), *(f":{ref}" for ref in names), cwd=work)
    assert held() == set()
    ada.git("push", "--quiet", ada.ssh_url(path), *(f"{tip}:{ref}" for ref in names), cwd=work)
    assert held() == names.keys()
    node.run("repo", "maintain", path)
    assert node.run("fsck").returncode == 0
    assert not list(node.data.rglob("x")), "a name was read as an option"


@pytest.mark.parametrize(
    "name",
    [
        "refs/heads/..", "refs/heads/a..b", "refs/heads/a@{b", "refs/heads/a.lock", "refs/heads/a.lock/b",
        "refs/heads/.a", "refs/heads/a.", "refs/heads/a//b", "refs/heads/a/", "refs/heads/a\x01b",
        "refs/heads/a\tb", "refs/heads/a b", "refs/heads/a\nb", "refs/heads/a~b", "refs/heads/a^b",
        "refs/heads/a:b",
        "refs/heads/a?b", "refs/heads/a*b", "refs/heads/a[b", "refs/heads/a\\b", "refs/heads/a\x7fb",
        "refs/heads/" + "a" * 251, "refs/heads/" + "a/" * 2050 + "a", "HEAD", "main", "refs/x", "refs/",
        "../refs/heads/x", "config", "heads/x", "refs/heads/main/below",
    ],
)  # fmt: skip
def test_names_that_git_forbids_are_refused_one_by_one(target: Target, name: str) -> None:
    objects, tip = a_commit()
    said = target.push(tip, pack_of(objects), name)
    assert "ng " in said or said[4:8] == "ERR ", said
    assert "\nok " not in said
    target.check_unharmed()


@pytest.mark.parametrize("name", ["refs/keep-around/x", "refs/merge-requests/1/head", "refs/pipelines/1"])
def test_the_servers_own_refs_are_not_for_pushing(target: Target, name: str) -> None:
    objects, tip = a_commit()
    assert f"ng {name}" in target.push(tip, pack_of(objects), name)
    target.check_unharmed()


# Push options
OPTIONS = [
    "a=b;c=d",
    "x;y=z\\n",
    "ci.skip",
    "ключ=значение",
    "'; DROP TABLE ledger_ref; --",
    '{"json": [1]}',
    " ",
    "=" * 900,
]


def test_push_options_are_kept_whole_and_never_read(node: Node, ada: Person, work: Path, path: str) -> None:
    given = [word for option in OPTIONS for word in ("-o", option)]
    ada.git("push", "--quiet", *given, ada.url(path), "main:with-options", cwd=work)
    with closing(sqlite3.connect(f"file:{node.data}/mainstay.db?mode=ro", uri=True)) as database:
        (details,) = database.execute(
            "SELECT details FROM ledger_change ORDER BY at_ms DESC LIMIT 1"
        ).fetchone()
    assert json.loads(details)["options"] == OPTIONS


@pytest.mark.parametrize(
    "options", [[b"a\nb"], [b"a\0b"], [b"x" * 2000], [b"x"] * 101], ids=["line feed", "NUL", "long", "many"]
)
def test_push_options_have_limits(target: Target, options: list[bytes]) -> None:
    objects, tip = a_commit()
    start = commands([("refs/heads/x", ZERO, tip)], capabilities="report-status push-options")
    body = start + b"".join(map(pkt, options)) + b"0000" + pack_of(objects)
    reply = target.post("git-receive-pack", body)
    assert "push option" in reply.text
    target.check_unharmed()


# Paths
TRICKS = [
    "ada/../ada/{}", "ada/./{}", "ada//{}", "/ada/{}", "ada/%2e%2e/ada/{}", "ada/{}%00", "ada%2f{}",
    "ada%5c{}",
    "ada/{}/", "ada/{}.git.git", "ada/{}/..", "ada/{}%0a",
    "ada/{}%20", "ada/{}.", "\u0430da/{}", "ada/{}\u200b",
    "ada/{}%ff", "ada/{}%", "x" * 3000, "/etc/passwd", "ada/" + "a/" * 200 + "{}", "ada/{}%252e%252e",
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_a_path_has_one_spelling_over_http(target: Target, trick: str) -> None:
    name = target.path.removeprefix("ada/")
    asked = "".join(each if each.isascii() else _escaped(each) for each in trick.format(name))
    for service in SERVICES:
        reply = target.ask("GET", f"/{asked}.git/info/refs?service={service}")
        assert reply.status in {400, 403, 404} or (
            service == "git-receive-pack" and MISSING not in reply.text
        )
        assert reply.status < 500
        assert target.tip not in reply.text
    target.check_unharmed()


@pytest.mark.parametrize("trick", TRICKS)
def test_a_path_has_one_spelling_over_ssh(target: Target, trick: str) -> None:
    asked = trick.format(target.path.removeprefix("ada/"))
    if "x" * 3000 in asked or asked.startswith("/ada"):
        return  # an absolute path is the usual spelling over SSH
    done = target.ada.git.try_ssh(f"git-upload-pack '{asked}.git'", port=target.node.ssh_port)
    assert done.code != 0
    assert "ERROR: " in done.err
    assert target.tip not in done.out
    target.check_unharmed()


def _escaped(letter: str) -> str:
    return "".join(f"%{octet:02x}" for octet in letter.encode())
