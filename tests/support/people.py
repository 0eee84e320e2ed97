"""People on a real node: users with passwords, tokens and SSH keys, made as people make them."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from support.git_client import GitClient
from support.node import Node


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any


@dataclass
class Person:
    """A user of the node at a machine of their own."""

    node: Node
    username: str
    password: str
    token: str
    git: GitClient

    def url(self, path: str, *, secret: str | None = None) -> str:
        """HTTP address with this person's password (or another secret) in it."""
        return self.node.clone_url(path, user=self.username, secret=secret or self.password)

    def ssh_url(self, path: str) -> str:
        return self.node.ssh_url(path)

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Call the API as this person."""
        request = urllib.request.Request(
            f"{self.node.url}/api/v4/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"PRIVATE-TOKEN": self.token, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, _json(answer.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _json(error.read()))

    def must(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the API; it must succeed."""
        answer = self.api(method, path, body)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body}"
        return answer.body

    def project(self, path: str, *, visibility: str = "private") -> str:
        """An empty project of this person; returns its full path."""
        self.must("POST", "projects", {"path": path, "name": path, "visibility": visibility})
        return f"{self.username}/{path}"


def person(node: Node, home: Path, username: str) -> Person:
    """A new user with a password, a token and a key."""
    password = f"{username}-password-1"
    node.run("user", "create", username, "--password-stdin", input_text=f"{password}\n")
    token = node.token(user=username, scopes="api,read_repository,write_repository")
    key = GitClient(home).new_key()
    made = Person(node, username, password, token, GitClient(home, key))
    made.must("POST", "user/keys", {"title": "machine", "key": key.with_suffix(".pub").read_text()})
    return made


def project_id(path: str) -> str:
    """The path as the API wants it in its addresses."""
    return quote(path, safe="")


def _json(body: bytes) -> Any:
    return json.loads(body) if body else None
