"""What a request shows of itself: the `Authorization` header, read strictly.

`Basic` (any user name with a token or a password) and `Bearer`. Whether they are right is for the gate.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable

from mainstay.foundation.errors import Invalid
from mainstay.product.projects.admission import NOBODY, Bearer, Credentials, UserAndSecret

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BYTES_MAX = 8192
"""As much as common proxies let through."""


class MalformedCredentials(Invalid):
    """The header is no `Basic` or `Bearer` that can be read in exactly one way."""


def credentials_of(headers: Iterable[tuple[bytes, bytes]]) -> Credentials:
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        return NOBODY
    if len(values) > 1:
        raise MalformedCredentials("there is more than one authorization header")
    return _parsed(values[0])


def _parsed(value: bytes) -> Credentials:
    scheme, _, rest = value.strip().partition(b" ")
    if len(value) > _BYTES_MAX:
        raise MalformedCredentials(f"the authorization header is longer than {_BYTES_MAX} bytes")
    if scheme.lower() == b"basic":
        return _basic(rest.strip())
    if scheme.lower() == b"bearer":
        return Bearer(_text(rest.strip()))
    raise MalformedCredentials("the authorization header is neither Basic nor Bearer")


def _basic(encoded: bytes) -> UserAndSecret:
    try:
        pair = _text(b64decode(encoded, validate=True))
    except binascii.Error:
        raise MalformedCredentials("the Basic credentials are not base64") from None
    username, colon, secret = pair.partition(":")
    if not colon:
        raise MalformedCredentials("the Basic credentials have no colon")
    return UserAndSecret(username, secret)


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedCredentials("the credentials are not UTF-8") from None
    if _CONTROL.search(text):
        raise MalformedCredentials("the credentials have a control character")
    return text
