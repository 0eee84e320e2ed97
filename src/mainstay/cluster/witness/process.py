"""A witness that is a process of ours somewhere, asked over HTTP.

`GET /witness/v1/record` shows the record with its version and age; `PUT` with `If-Match: VERSION`, or with
`If-None-Match: *` for the first, replaces it. Who asks shows a token, or a certificate, or both. Each request
has its own connection and ends within `REQUEST_S_MAX`.
"""

import http.client
import json
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from mainstay.cluster.witness import BadRecord, Overtaken, Record, Seen, WitnessAway, record_from, record_said
from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import Secret

PATH: Final = "/witness/v1/record"
REQUEST_S_MAX: Final = 2.0
ANSWER_BYTES_MAX: Final = 32 * 1024
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}


class BadWitnessUrl(Invalid):
    """The text does not say where a witness is."""


class ProcessWitness:
    """The witness at `url`. Safe for use from several threads."""

    def __init__(
        self,
        url: str,
        *,
        token: Secret,
        tls: ssl.SSLContext | None = None,
        limit_s: float = REQUEST_S_MAX,
    ) -> None:
        """Raises `BadWitnessUrl`: a token travels in plain text on this machine only."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
            raise BadWitnessUrl(f"{url!r} is not the address of a witness: https://HOST:PORT")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise BadWitnessUrl(f"{url!r}: a witness on another machine is asked over https")
        self._host, self._port = parts.hostname, parts.port
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._token = token
        self._limit_s = limit_s

    def look(self) -> Seen | None:
        status, said = self._ask("GET", None, {})
        if status == http.client.NOT_FOUND:
            return None
        if status != http.client.OK:
            raise self._refused(status, said)
        try:
            return Seen(record_from(said["record"]), str(said["version"]), float(said["age_s"]))
        except (KeyError, TypeError, ValueError, BadRecord) as error:
            raise WitnessAway("the witness gave an answer that is none") from error

    def swap(self, version: str | None, record: Record) -> str:
        condition = {"If-None-Match": "*"} if version is None else {"If-Match": f'"{version}"'}
        status, said = self._ask("PUT", json.dumps(record_said(record)).encode(), condition)
        if status == http.client.PRECONDITION_FAILED:
            raise Overtaken("the record was changed meanwhile")
        if status == http.client.UNPROCESSABLE_ENTITY:
            raise BadRecord(f"the witness refuses the record: {said.get('because', '')}")
        if status != http.client.OK:
            raise self._refused(status, said)
        try:
            return str(said["version"])
        except KeyError as error:
            raise WitnessAway("the witness gave an answer that is none") from error

    def _ask(self, method: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        connection = self._connection()
        try:
            told = {**headers, "Authorization": f"Bearer {self._token.reveal()}", "Connection": "close"}
            connection.request(method, PATH, body=body, headers=told)
            answer = connection.getresponse()
            said = json.loads(answer.read(ANSWER_BYTES_MAX) or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise WitnessAway(f"the witness does not answer: {error}") from error
        finally:
            connection.close()
        return answer.status, said if isinstance(said, dict) else {}

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._limit_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._limit_s, context=self._tls)

    def _refused(self, status: int, said: dict[str, Any]) -> WitnessAway:
        return WitnessAway(f"the witness answered {status}: {said.get('because', 'no reason given')}")
