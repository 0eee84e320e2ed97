"""Placement: the same answer everywhere, little movement, an even share, labels before all."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mainstay.cluster.nodes import NodeRow
from mainstay.cluster.placement import PREFERRED, GitNode, git_nodes, order_of_asking, ranked

REPOSITORIES = st.integers(min_value=1, max_value=1 << 40)
IDS = st.lists(st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=4, max_size=8), min_size=1, unique=True)


def node(name: str, *labels: str) -> GitNode:
    return GitNode(id=name, host="192.0.2.1", port=9000, labels=frozenset(labels))


NODES = [node(name) for name in ("N1", "N2", "N3", "N4", "N5")]


@given(REPOSITORIES, IDS, st.randoms())
def test_every_node_finds_the_same_order(repository: int, ids: list[str], shuffle: object) -> None:
    nodes = [node(each) for each in ids]
    other = list(nodes)
    shuffle.shuffle(other)  # type: ignore[attr-defined]
    assert ranked(repository, nodes) == ranked(repository, other)
    assert sorted(order_of_asking(repository, nodes), key=lambda n: n.id) == sorted(nodes, key=lambda n: n.id)


@given(REPOSITORIES, IDS)
def test_a_node_that_leaves_moves_nobody_elses_repository(repository: int, ids: list[str]) -> None:
    before = ranked(repository, [node(each) for each in ids])
    for gone in before:
        after = ranked(repository, [each for each in before if each != gone])
        assert after == [each for each in before if each != gone]


def test_the_share_of_a_new_node_is_its_share() -> None:
    repositories = range(1, 4001)
    before = {each: ranked(each, NODES)[0] for each in repositories}
    after = {each: ranked(each, [*NODES, node("N6")])[0] for each in repositories}
    moved = [each for each in repositories if before[each] != after[each]]
    assert {after[each].id for each in moved} == {"N6"}, "nothing moves between those who were there"
    assert 0.13 < len(moved) / len(repositories) < 0.20


def test_the_work_is_shared_evenly() -> None:
    warm = Counter(each.id for number in range(1, 5001) for each in ranked(number, NODES)[:PREFERRED])
    assert all(0.9 < count / 2000 < 1.1 for count in warm.values())


def test_a_label_comes_before_warmth_while_a_node_has_it() -> None:
    nodes = [*NODES, node("F1", "fast"), node("F2", "fast", "big"), node("F3", "fast")]
    for repository in range(1, 50):
        asked = order_of_asking(repository, nodes, label="fast")
        assert {each.id[0] for each in asked[:3]} == {"F"}
        assert order_of_asking(repository, nodes, label="big")[0].id == "F2"
        assert order_of_asking(repository, NODES, label="fast") == order_of_asking(repository, NODES)


def test_the_less_busy_of_the_preferred_goes_first() -> None:
    first, second, *others = ranked(7, NODES)
    assert order_of_asking(7, NODES, load={first.id: 3, second.id: 2})[:2] == [second, first]
    assert order_of_asking(7, NODES, load={first.id: 9, second.id: 9})[2:] == others, "others stay behind"
    draws = iter([0.9, 0.1])
    assert order_of_asking(7, NODES, draw=lambda: next(draws))[:2] == [second, first]


def test_who_failed_comes_last_but_comes() -> None:
    first, *_others = ranked(7, NODES)
    assert order_of_asking(7, NODES, avoided={first.id})[-1] == first
    everybody = {each.id for each in NODES}
    assert len(order_of_asking(7, NODES, avoided=everybody)) == len(NODES)
    assert order_of_asking(7, [], avoided=everybody) == []


def test_addresses_do_not_matter() -> None:
    moved = [replace(each, host="192.0.2.99") for each in NODES]
    assert [each.id for each in ranked(7, moved)] == [each.id for each in ranked(7, NODES)]


def row(name: str, *, roles: str = "git", rpc: str = "192.0.2.1:9000", state: str = "ready") -> NodeRow:
    return NodeRow(
        id=name,
        name=name,
        http="",
        ssh="",
        rpc=rpc,
        health="",
        roles=frozenset(roles.split(",")),
        labels=("fast",),
        version="1",
        state=state,  # type: ignore[arg-type]
    )


def test_who_serves_git_to_others() -> None:
    rows = [
        row("N1", rpc="[2001:db8::1]:9000"),
        row("N2", roles="web,ssh"),
        row("N3", rpc=""),
        row("N4", state="draining"),
        row("N5", state="starting"),
    ]
    assert git_nodes(rows) == [GitNode(id="N1", host="2001:db8::1", port=9000, labels=frozenset({"fast"}))]
    assert [each.id for each in git_nodes(rows[1:])] == ["N4", "N5"], "better than nobody"
    assert git_nodes(rows[1:3]) == []
