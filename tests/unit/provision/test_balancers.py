"""Configurations of balancers: the same in, the same out, and nothing that could be read otherwise."""

from dataclasses import replace
from typing import Any

import pytest

from mainstay.provision.balancers.description import BadDescription, BalancedNode, Balancer, parse_node
from mainstay.provision.balancers.haproxy import haproxy_configuration, stable_id
from mainstay.provision.balancers.nginx import nginx_configuration
from mainstay.provision.balancers.notes import node_settings
from mainstay.provision.balancers.watching import Watching

NODES = (parse_node("n1=10.0.0.1"), parse_node("n2=[2001:db8::2]:80:23,https=443,health=81"))
PLAIN = Balancer(nodes=NODES)
TLS = replace(
    PLAIN,
    tls="both",
    certificate="/etc/ssl/site.pem",
    certificate_key="/etc/ssl/site.key",
    server_name="git.test",
    proxy_protocol="v1",
)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("a=h", BalancedNode(name="a", host="h")),
        ("a-1=10.0.0.1:1", BalancedNode(name="a-1", host="10.0.0.1", http=1)),
        ("a=10.0.0.1:1:2", BalancedNode(name="a", host="10.0.0.1", http=1, ssh=2)),
        ("a=[::1]", BalancedNode(name="a", host="::1")),
        (
            "a=[::1]:1:2,health=3,https=4",
            BalancedNode(name="a", host="::1", http=1, ssh=2, health=3, https=4),
        ),
    ],
)
def test_a_node_is_named_with_its_ports(text: str, node: BalancedNode) -> None:
    assert parse_node(text) == node


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "=h",
        "a=",
        "a=h:",
        "a=h:0",
        "a=h:65536",
        "a=h:1:2:3",
        "a=h:x",
        "a=h,metrics=1",
        "a=h,health=",
        "a=fe80::1",
        "a=[fe80::1%eth0]",
        "a b=h",
        "a=h;x",
        "a=h\n    server evil 6.6.6.6",
        "a\nb=h",
    ],
)
def test_what_could_be_read_otherwise_is_refused(text: str) -> None:
    with pytest.raises(BadDescription):
        parse_node(text)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"nodes": ()}, "--node NAME=HOST"),
        ({"nodes": (replace(NODES[0], serves_http=False),)}, "--node NAME=HOST"),
        ({"nodes": (NODES[0], NODES[0])}, "two nodes are called 'n1'"),
        ({"tls": "node", "nodes": (replace(NODES[0], https=0),)}, "no https port"),
        ({"tls": "balancer"}, "needs --certificate FILE"),
        ({"tls": "both", "certificate": "a.pem"}, "needs --server-name"),
        ({"hsts": True}, "--hsts needs TLS"),
        ({"tls": "balancer", "certificate": "a b; user root"}, "letters, digits"),
        ({"directory": "/tmp/x\ny"}, "letters, digits"),
        ({"listen": ("example.org",)}, "no address to listen on"),
    ],
)
def test_a_description_that_cannot_work_says_what_to_change(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadDescription, match=sentence):
        haproxy_configuration(replace(PLAIN, **change))
    with pytest.raises(BadDescription, match=sentence):
        nginx_configuration(replace(PLAIN, **{"proxy_protocol": "v1", **change}))


def test_nginx_says_what_it_cannot_do() -> None:
    with pytest.raises(BadDescription, match="version 1 only"):
        nginx_configuration(PLAIN)
    with pytest.raises(BadDescription, match="--certificate-key"):
        nginx_configuration(replace(TLS, certificate_key=""))


def test_the_same_description_gives_the_same_text() -> None:
    assert haproxy_configuration(TLS) == haproxy_configuration(replace(TLS))
    assert nginx_configuration(TLS) == nginx_configuration(replace(TLS))


def test_a_new_node_changes_only_its_own_lines() -> None:
    more = replace(PLAIN, nodes=(parse_node("n0=10.0.0.9"), *NODES))
    before, after = (set(haproxy_configuration(each).splitlines()[1:]) for each in (PLAIN, more))
    assert before <= after
    assert all("n0" in line for line in after - before)
    assert stable_id("n1") != stable_id("n2")


@pytest.mark.parametrize(
    ("tls", "doors"), [("off", "ssh"), ("balancer", "ssh"), ("node", "https,ssh"), ("both", "ssh")]
)
def test_the_nodes_are_told_where_to_expect_what(tls: Any, doors: str) -> None:
    told = dict(node_settings(replace(TLS, tls=tls)))
    assert told["proxy_protocol_on"] == f'"{doors}"'
    assert told["external_url"].startswith('"http:' if tls == "off" else '"https:')
    assert ("tls_certificate" in told) == (tls in ("node", "both"))
    assert "proxy_protocol" not in dict(node_settings(replace(TLS, tls=tls, proxy_protocol="off")))


def test_nodes_serve_by_their_roles() -> None:
    nodes = (parse_node("web=10.0.0.1"), replace(parse_node("ssh=10.0.0.2"), serves_http=False))
    without_ssh = replace(nodes[0], ssh=0)
    text = haproxy_configuration(replace(PLAIN, nodes=(without_ssh, nodes[1])))
    assert "server web 10.0.0.1:8080" in text
    assert "server web 10.0.0.1:2222" not in text
    assert "server ssh 10.0.0.2:2222" in text
    assert "server ssh 10.0.0.2:8080 id" not in text
    assert "ssh_nodes" not in haproxy_configuration(replace(PLAIN, ssh_port=0))


def test_root_is_given_up_only_where_it_was_needed() -> None:
    high = replace(TLS, http_port=8080, https_port=8443, ssh_port=2222)
    assert "user haproxy" in haproxy_configuration(TLS)
    assert "user www-data" in nginx_configuration(TLS)
    assert "user " not in haproxy_configuration(high)
    assert "\nuser " not in nginx_configuration(high)


def test_a_resting_node_gets_nothing_on_any_port() -> None:
    text = nginx_configuration(TLS, resting={"n1"})
    assert all("down;" in line for line in text.splitlines() if line.endswith("# n1"))
    assert not any("down;" in line for line in text.splitlines() if line.endswith("# n2"))
    assert sum(line.endswith("# n1") for line in text.splitlines()) == 3


def test_a_node_rests_after_two_failed_looks_and_is_back_after_a_good_one() -> None:
    watching = Watching()
    assert watching.resting({"a": False, "b": True}) == frozenset()
    assert watching.resting({"a": False, "b": True}) == {"a"}
    assert watching.resting({"a": True, "b": False}) == frozenset()
    assert watching.resting({"a": True, "b": False}) == {"b"}
    assert watching.resting({"a": True}) == frozenset()


def test_when_every_look_fails_nobody_rests() -> None:
    watching = Watching()
    for _ in range(3):
        assert watching.resting({"a": False, "b": False}) == frozenset()
    assert watching.resting({"a": True, "b": False}) == {"b"}
