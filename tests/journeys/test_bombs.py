"""Pushes that are small on the wire and huge inside: answered soon, in bounded memory, and harmless after."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from mainstay.git.protocol.receive import COMMANDS_MAX
from support.aftermath import check_unharmed, standing_of
from support.bombs import (
    Bomb,
    deep_tree,
    deflate_bomb,
    delta_bomb,
    delta_chain,
    one_line,
    relabelled,
    tree_bomb,
)
from support.long import only_long
from support.node import Node
from support.people import Person, person, project_id
from support.process_tree import Sampled, wait_until_quiet
from support.raw_http import Reply, basic, commands, post_to
from support.raw_push import ZERO, pkt

CHILD_MIB_MAX = 256
SERVER_GROWTH_MIB_MAX = 64
COMMAND_BYTES = 56 + 96 + 64 + 8
"""What one takes in memory: itself, an oid, a ref name, its place in the list."""

_numbers = count(1)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("bombed") / "data") as node:
        yield node


@pytest.fixture(scope="module")
def ada(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return person(node, tmp_path_factory.mktemp("ada"), "ada")


@pytest.fixture
def path(ada: Person) -> str:
    return ada.project(f"target-{next(_numbers)}")


@dataclass(frozen=True)
class Answered:
    reply: Reply
    sampled: Sampled


def push(ada: Person, path: str, bomb: Bomb) -> str:
    """Throw it: whatever the answer is, it took little memory."""
    body = commands([("refs/heads/main", ZERO, bomb.tip)]) + bomb.pack
    answered = post(ada, path, body)
    assert answered.reply.status == 200
    assert answered.sampled.git_peak_mib <= CHILD_MIB_MAX, answered.sampled.git_peaks_mib
    assert answered.sampled.server_growth_mib <= SERVER_GROWTH_MIB_MAX
    return answered.reply.text


def post(ada: Person, path: str, body: bytes) -> Answered:
    with Sampled(ada.node) as sampled:
        reply = post_to(ada.node, path, "git-receive-pack", body, ada_is(ada), timeout_s=240)
    return Answered(reply, sampled)


def ada_is(ada: Person) -> dict[str, str]:
    return basic(ada.username, ada.password)


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(lambda: deflate_bomb(400), id="zeros"),
        pytest.param(lambda: one_line(400), id="one line", marks=only_long),
        pytest.param(lambda: delta_chain(base_mib=40, links=8), id="deltas of a large file"),
        pytest.param(lambda: tree_bomb(width=10, levels=10), id="ten thousand million files"),
        pytest.param(lambda: deep_tree(3000), id="deep"),
    ],
)
def test_what_can_be_stored_is_stored_and_stays_bounded(
    ada: Person, path: str, tmp_path: Path, bomb: Callable[[], Bomb]
) -> None:
    assert "ok refs/heads/main" in push(ada, path, bomb())
    with Sampled(ada.node) as sampled:
        ada.git("clone", "--quiet", "--no-checkout", ada.url(path), tmp_path / "clone")
        ada.git(
            "clone", "--quiet", "--bare", "--depth=1", "--filter=blob:none", ada.url(path), tmp_path / "part"
        )
        project = f"projects/{project_id(path)}"
        for about in ("", "/repository/branches", "/repository/branches/main"):
            ada.must("GET", project + about)
        ada.node.run("repo", "maintain", path)
        assert ada.node.run("fsck", path).returncode == 0
    assert sampled.git_peak_mib <= CHILD_MIB_MAX, sampled.git_peaks_mib
    assert sampled.server_growth_mib <= SERVER_GROWTH_MIB_MAX
    assert ada.node.get("/-/readiness")[0] == 200


@pytest.mark.parametrize(
    ("bomb", "because"),
    [
        pytest.param(lambda: delta_bomb(growth=64, levels=3), "Out of memory", id="16 GiB in 500 bytes"),
        pytest.param(lambda: delta_bomb(growth=16, levels=3), "Out of memory", id="256 MiB in 400 bytes"),
        pytest.param(
            lambda: delta_chain(base_mib=30, links=3000), "too much computing", id="work for minutes"
        ),
        pytest.param(lambda: deep_tree(6000), "nested too deeply", id="deep"),
        pytest.param(lambda: deep_tree(60000), "nested too deeply", id="very deep", marks=only_long),
    ],
)
def test_what_cannot_be_unpacked_is_refused(
    ada: Person, path: str, bomb: Callable[[], Bomb], because: str
) -> None:
    before = standing_of(ada.node, path)
    said = push(ada, path, bomb())
    assert because in said
    assert "ng refs/heads/main unpacker error" in said
    check_unharmed(ada.node, before)


def test_a_lie_about_the_number_of_objects_buys_no_memory(ada: Person, path: str) -> None:
    """With twenty million announced objects a bomb may use no more than without them."""
    bomb = delta_bomb(growth=64, levels=3)
    before = standing_of(ada.node, path)
    said = push(ada, path, Bomb(relabelled(bomb.pack, objects=20_000_000), bomb.tip))
    assert "ng refs/heads/main unpacker error" in said
    check_unharmed(ada.node, before)


def test_too_many_refs_in_one_push_are_refused_in_a_sentence(ada: Person, path: str) -> None:
    """What came until then is in memory; beside it the server grows as little as by any other push."""
    before = standing_of(ada.node, path)
    first = commands([("refs/heads/b", ZERO, "1" * 40)])[:-4]
    rest = b"".join(
        pkt(f"{ZERO} {number:040} refs/heads/branch-{number:07}".encode())
        for number in range(1, 4 * COMMANDS_MAX)
    )
    answered = post(ada, path, first + rest + b"0000")
    assert answered.reply.status == 200
    assert f"more than {COMMANDS_MAX} ref updates in one push" in answered.reply.text
    commands_mib = COMMANDS_MAX * COMMAND_BYTES / 1024**2
    assert answered.sampled.server_growth_mib <= commands_mib + SERVER_GROWTH_MIB_MAX
    check_unharmed(ada.node, before)


def test_nothing_is_left_of_all_this(node: Node) -> None:
    wait_until_quiet(node)
    assert list((node.data / "quarantine").iterdir()) == []
