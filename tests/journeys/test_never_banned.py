"""Addresses that many people share are not locked out because of one of them."""

import base64
from pathlib import Path

import pytest

from support.node import Node

_FAILURES = 12
"""More than the ten that ban an address."""


def _basic(node: Node, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"root:{secret}".encode()).decode()}


@pytest.mark.parametrize(("exempt", "afterwards"), [("127.0.0.0/8", 404), ("192.0.2.0/24", 429)])
def test_failed_sign_ins_ban_an_address_unless_it_is_exempt(
    tmp_path: Path, exempt: str, afterwards: int
) -> None:
    with Node(tmp_path / "node", environment={"MAINSTAY_NEVER_BANNED": exempt}) as node:
        token = node.token()
        path = "/root/nothing.git/info/refs?service=git-upload-pack"
        for _ in range(_FAILURES):
            node.get(path, headers=_basic(node, "glpat-wrong"))
            node.get("/api/v4/user", headers={"PRIVATE-TOKEN": "glpat-wrong"})
        assert node.get(path, headers=_basic(node, token))[0] == afterwards
        status, _ = node.get("/api/v4/user", headers={"PRIVATE-TOKEN": token})
        assert (status == 200) == (afterwards == 404)
