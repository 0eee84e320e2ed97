"""What somebody sees who opens the node's address in a browser."""

import re
import urllib.request

import pytest

from support.node import Node


def _headers(node: Node, path: str, *, accept: str = "text/html") -> dict[str, str]:
    request = urllib.request.Request(node.url + path, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}


def test_the_front_page_is_whole_and_brings_its_style_from_the_node(node: Node) -> None:
    status, body = node.get("/")
    shown = body.decode()
    assert status == 200
    assert f"{node.url}/<var>YOUR-NAME</var>/<var>PROJECT</var>.git" in shown
    assert f"ssh://git@127.0.0.1:{node.ssh_port}/" in shown
    (style,) = re.findall(r'<link rel="stylesheet" href="([^"]+)">', shown)
    headers = _headers(node, style)
    assert headers["content-type"].startswith("text/css")
    assert "immutable" in headers["cache-control"]


@pytest.mark.parametrize("path", ["/", "/ada/engine?go-get=1"])
def test_a_browser_is_told_to_run_nothing_and_to_frame_nothing(node: Node, path: str) -> None:
    headers = _headers(node, path)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
