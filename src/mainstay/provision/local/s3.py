"""The one request of S3 that the stack makes itself: a bucket, signed (AWS Signature Version 4)."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus

from mainstay.foundation.clock import SYSTEM
from mainstay.provision.local.member import http_request

REGION = "us-east-1"
_SIGNED = "host;x-amz-content-sha256;x-amz-date"
_EMPTY = hashlib.sha256(b"").hexdigest()
_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may use the store."""

    access_key: str
    secret_key: str = field(repr=False)


def make_bucket(host: str, port: int, bucket: str, credentials: Credentials) -> bool:
    """Whether the bucket is there now, made by this call or before."""
    headers = _signed_headers(f"{host}:{port}", f"/{bucket}", credentials)
    answer = http_request("PUT", host, port, f"/{bucket}", headers=headers, within_s=_WITHIN_S)
    return answer is not None and answer[0] in (HTTPStatus.OK, HTTPStatus.CONFLICT)


def _signed_headers(host: str, path: str, credentials: Credentials) -> dict[str, str]:
    at = f"{datetime.fromtimestamp(SYSTEM.now_ms() / 1000, tz=UTC):%Y%m%dT%H%M%SZ}"
    scope = f"{at[:8]}/{REGION}/s3/aws4_request"
    request = (
        f"PUT\n{path}\n\nhost:{host}\nx-amz-content-sha256:{_EMPTY}\nx-amz-date:{at}\n\n{_SIGNED}\n{_EMPTY}"
    )
    to_sign = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (at[:8], REGION, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    who = f"Credential={credentials.access_key}/{scope}, SignedHeaders={_SIGNED}, Signature={signature}"
    return {
        "Host": host,
        "X-Amz-Date": at,
        "X-Amz-Content-Sha256": _EMPTY,
        "Authorization": f"AWS4-HMAC-SHA256 {who}",
    }
