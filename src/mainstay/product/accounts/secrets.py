"""Tokens: shown once when made, kept only as SHA-256.

A token has 120 random bits, so one fast hash is enough, and the hash is what the database looks up: no
comparison of secrets, nothing to time. The prefix tells secret scanners and us what it is.
"""

import hashlib
import secrets

PERSONAL_PREFIX = "glpat-"
DEPLOY_PREFIX = "gldt-"
PREFIXES = (PERSONAL_PREFIX, DEPLOY_PREFIX)

_RANDOM_BYTES = 15  # 20 characters of base 64 without padding


def new_token(prefix: str) -> str:
    """A fresh token such as `glpat-Zs3…`."""
    return prefix + secrets.token_urlsafe(_RANDOM_BYTES)


def new_password() -> str:
    """A password for somebody to type once and change."""
    return secrets.token_urlsafe(24)


def digest_of(token: str) -> str:
    """What is stored and looked up instead of the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
