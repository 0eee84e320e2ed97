"""What is single in a cluster, judged without one."""

import re
from dataclasses import replace

import pytest

from mainstay.cluster.nodes import NodeRow
from mainstay.ops.doctor import Seen, exit_code_of, judge_agreement, judge_ha, single_points_of
from mainstay.ops.standbys import Replication

EVERYTHING = frozenset({"web", "git", "ssh", "worker"})
SYNCHRONOUS = Replication(version="15", wanted="*", commit="on", confirming=1, commits=True)


def a_node(name: str, host: str, **fields: object) -> NodeRow:
    row = NodeRow(
        id=name,
        name=name,
        http=f"{host}:8080",
        ssh="",
        rpc="",
        health="",
        roles=EVERYTHING,
        labels=(),
        version="1.0",
        state="ready",
        facts={"secrets": {"secret_key": "abc"}, "settings": {"database_url": "1"}},
    )
    return replace(row, **fields)  # type: ignore[arg-type]


NODES = [a_node("one", "10.0.0.1"), a_node("two", "10.0.0.2")]
WELL = Seen(
    database_url="postgresql://u@a,b/mainstay",
    object_store="s3://bucket",
    declared=frozenset({"balancer", "object_store"}),
    nodes=NODES,
    replication=SYNCHRONOUS,
)


def test_two_of_everything_is_highly_available() -> None:
    findings = judge_ha(WELL)
    assert exit_code_of(findings) == 0
    assert single_points_of(findings) == []


@pytest.mark.parametrize(
    ("change", "point", "says"),
    [
        ({"replication": None}, "database", "SQLite"),
        ({"replication": replace(SYNCHRONOUS, wanted="")}, "database", "no synchronous standby"),
        ({"replication": replace(SYNCHRONOUS, confirming=0)}, "database", "none is connected"),
        ({"replication": replace(SYNCHRONOUS, commits=False)}, "database", "no commit is confirmed"),
        ({"replication": replace(SYNCHRONOUS, commit="off")}, "database", "can be lost"),
        ({"replication": replace(SYNCHRONOUS, commit="local")}, "database", "can be lost"),
        ({"nodes": NODES[:1]}, "nodes", "only node one"),
        ({"nodes": []}, "nodes", "no node lives"),
        ({"nodes": [NODES[0], a_node("two", "10.0.0.1")]}, "hosts", "one machine"),
        (
            {"nodes": [NODES[0], a_node("two", "10.0.0.2", roles=frozenset({"web", "git", "worker"}))]},
            "roles",
            r"ssh \(one\)",
        ),
        ({"object_store": "file:///srv/objects"}, "object store", "directory"),
    ],
)
def test_what_is_single_is_named_and_fails(change: dict[str, object], point: str, says: str) -> None:
    seen = replace(WELL, **{"declared": frozenset({"balancer"}), **change})  # type: ignore[arg-type]
    findings = judge_ha(seen)
    assert point in single_points_of(findings)
    assert exit_code_of(findings) == 2
    found = next(finding for finding in findings if finding.name == point)
    assert re.search(says, found.says)


def test_what_cannot_be_seen_is_a_warning_until_it_is_declared_and_never_called_verified() -> None:
    findings = judge_ha(replace(WELL, declared=frozenset()))
    assert single_points_of(findings) == ["object store", "balancer"]
    assert exit_code_of(findings) == 1
    for finding in judge_ha(WELL):
        if finding.name in ("object store", "balancer"):
            assert "not verified" in finding.says


def test_a_managed_database_may_be_declared_but_a_lost_commit_may_not() -> None:
    declared = replace(WELL, declared=frozenset({"balancer", "database", "object_store"}))
    out_of_sight = replace(
        declared, replication=replace(SYNCHRONOUS, wanted=""), database_url="postgresql://a/x"
    )
    assert exit_code_of(judge_ha(out_of_sight)) == 0
    unsafe = replace(declared, replication=replace(SYNCHRONOUS, commit="off"))
    assert exit_code_of(judge_ha(unsafe)) == 2


def test_standbys_that_may_not_be_seen_are_proved_by_a_commit() -> None:
    hidden = replace(WELL, replication=replace(SYNCHRONOUS, confirming=None))
    assert exit_code_of(judge_ha(hidden)) == 0
    assert (
        exit_code_of(judge_ha(replace(WELL, replication=replace(SYNCHRONOUS, confirming=None, commits=None))))
        == 1
    )


def test_nodes_that_do_not_fit_together_are_told() -> None:
    assert exit_code_of(judge_agreement(NODES)) == 0
    other = {"secrets": {"secret_key": "xyz"}, "settings": {"database_url": "1"}}
    assert exit_code_of(judge_agreement([NODES[0], a_node("two", "h", facts=other)])) == 2
    assert exit_code_of(judge_agreement([NODES[0], a_node("two", "h", version="1.1")])) == 1
    assert exit_code_of(judge_agreement([NODES[0], a_node("two", "h", skew_ms=-9000)])) == 1
    unlike = {"secrets": {"secret_key": "abc"}, "settings": {"database_url": "2"}}
    assert exit_code_of(judge_agreement([NODES[0], a_node("two", "h", facts=unlike)])) == 1
    assert judge_agreement([]) == []
