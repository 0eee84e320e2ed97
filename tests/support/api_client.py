"""Talk to the API as a client without a library would: exact bytes out, status, headers and JSON in."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

PREFIX = "/api/v4"


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]
    """By lower-case name."""

    def __getitem__(self, key: Any) -> Any:
        return self.body[key]


@dataclass(frozen=True)
class ApiClient:
    """Somebody with a token, or nobody without."""

    port: int
    token: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        form: Mapping[str, str] | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send `path` as it is written; `body` as JSON, `form` as a form, `raw` as it is."""
        sent = {**self.headers, **({"PRIVATE-TOKEN": self.token} if self.token else {})}
        content = raw
        if body is not None:
            content, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        if form is not None:
            content = urlencode(form).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        return self._exchange(method, PREFIX + path, content, {**sent, **(headers or {})})

    def _exchange(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, content, dict(headers))
            answer = connection.getresponse()
            text = answer.read()
            names = {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()
        return Answer(answer.status, json.loads(text) if text else None, names)

    def get(self, path: str, **more: Any) -> Answer:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("POST", path, body, **more)

    def put(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("PUT", path, body, **more)

    def delete(self, path: str, **more: Any) -> Answer:
        return self.call("DELETE", path, **more)

    def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """As `call`, for what has to work."""
        answer = self.call(method, path, body, **more)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body}"
        return answer
