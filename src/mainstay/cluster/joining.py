"""Letting one machine in, once, by a token.

    mjt_<id>_<secret>       for a node of this cluster
    mrt_<id>_<secret>       for a replica, another site (`cluster.sites.admission`)

The machine that joins shows `<id>` and a proof that is derived from the secret (HKDF), never the secret.
The cluster keeps a hash of the proof, and a second derivative as wrapping key, itself wrapped by the key
ring. It answers with a bundle that is sealed by that key (AES-256-GCM). So on a plain line neither token nor
bundle can be read, and nobody in between can forge a bundle; the most they can do is to use the token up.

A token is used up by one UPDATE, so of two machines that show it one gets in. Unknown, used and expired
tokens are refused in the same words: strangers learn nothing. A token of the other kind lets nobody in, too,
and is not used up by it.
"""

import json
import os
import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal

from mainstay.cluster.keyring import KeyRing, MasterKeyUnreadable
from mainstay.cluster.nodes import now_ms
from mainstay.cluster.secrets import Secrets
from mainstay.foundation.errors import Invalid, NotAllowed
from mainstay.foundation.ids import is_ulid, new_ulid
from mainstay.foundation.logs import Secret, get_logger
from mainstay.storage.database import Database, Transaction

log = get_logger()

Kind = Literal["node", "replica"]
"""What may join by a token."""

FORMAT: Final = 1
TTL_MS_MAX: Final = 7 * 24 * 3_600_000

_SECRET_BYTES = 32
_KEY_BYTES = 32
_NONCE_BYTES = 12
_PREFIXES: Final[Mapping[Kind, str]] = {"node": "mjt", "replica": "mrt"}
_TOKEN = re.compile(r"(mjt|mrt)_([0-9A-Z]{26})_([0-9a-f]{64})")
_PROOF = re.compile(r"[0-9a-f]{64}")
_FORGOTTEN_AFTER_MS = 7 * 24 * 3_600_000


class NotAToken(Invalid):
    """The text is no join token."""


class TokenRefused(NotAllowed):
    """The token is unknown, used, expired or of the other kind; which one is not said."""

    def __init__(self, kind: Kind = "node") -> None:
        super().__init__(
            "this token lets nobody in: it is unknown, used or expired; make another with"
            f" `mainstay {kind} token` on a node of the {'cluster' if kind == 'node' else 'primary'}"
        )


class BundleUnreadable(Invalid):
    """What came back was not sealed for this token, or was changed on the way."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """As the machine that joins holds it."""

    id: str
    secret: bytes
    kind: Kind = "node"

    def __repr__(self) -> str:
        return f"JoinToken({self.id})"

    @property
    def text(self) -> str:
        return f"{_PREFIXES[self.kind]}_{self.id}_{self.secret.hex()}"

    @property
    def proof(self) -> str:
        """What is shown to the cluster."""
        return _derived(self.secret, b"proof").hex()

    @property
    def sealing_key(self) -> bytes:
        return _derived(self.secret, b"bundle")


@dataclass(frozen=True, slots=True)
class Bundle:
    """All that a machine needs to be a node."""

    instance: str
    keyring: KeyRing
    settings: Mapping[str, str]
    """Those that are equal on all nodes, as text."""
    site: Mapping[str, str] = field(default_factory=dict)
    """What only a replica is given, see `cluster.sites.admission`."""


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A fresh token; its text is not kept anywhere."""

    id: str
    text: Secret
    expires_ms: int


def parse_token(text: str, kind: Kind = "node") -> JoinToken:
    """Raises `NotAToken`."""
    found = _TOKEN.fullmatch(text.strip())
    if found is None or not is_ulid(found[2]):
        raise NotAToken(
            f"that is not a join token: it looks like {_PREFIXES[kind]}_ID_SECRET,"
            f" from `mainstay {kind} token`"
        )
    if found[1] != _PREFIXES[kind]:
        raise NotAToken(
            "that token is for a replica: `mainstay replica add` takes it"
            if kind == "node"
            else "that token is for a node of the cluster: `mainstay join` takes it"
        )
    return JoinToken(found[2], bytes.fromhex(found[3]), kind)


def make_token(
    database: Database, secrets: Secrets, *, by: str, ttl_ms: int, kind: Kind = "node"
) -> MadeToken:
    """A token for one machine. Also forgets those that ended a week ago. Raises `Invalid` for a wild ttl."""
    if not 0 < ttl_ms <= TTL_MS_MAX:
        raise Invalid("a join token lives from a second to 7 days")
    token = JoinToken(new_ulid(), os.urandom(_SECRET_BYTES), kind)
    wrapping = secrets.wrap(_name_of(token.id), token.sealing_key)
    with database.write() as tx:
        now = now_ms(tx)
        tx.execute("DELETE FROM cluster_join_token WHERE expires_ms < ?", (now - _FORGOTTEN_AFTER_MS,))
        tx.execute(
            "INSERT INTO cluster_join_token"
            " (id, verifier, wrapping, created_by, created_ms, expires_ms, used_ms, used_from, kind)"
            " VALUES (?, ?, ?, ?, ?, ?, 0, '', ?)",
            (token.id, _verifier(token.proof), wrapping, by[:64], now, now + ttl_ms, kind),
        )
    log.info("cluster.join_token_made", id=token.id, kind=kind, by=by, ttl_ms=ttl_ms)
    return MadeToken(token.id, Secret(token.text), now + ttl_ms)


def redeem(
    database: Database, secrets: Secrets, bundle: Bundle, *, token_id: str, proof: str, at: str
) -> str:
    """Use the token up and return the bundle, sealed for who holds it. Raises `TokenRefused`."""
    check_form("node", token_id=token_id, proof=proof)
    with database.write() as tx:
        wrapping = use_up(tx, kind="node", token_id=token_id, proof=proof, at=at)
        key = sealing_key(secrets, token_id, wrapping)
    log.info("cluster.machine_let_in", token_id=token_id, address=at)
    return seal(key, token_id, bundle)


def check_form(kind: Kind, *, token_id: str, proof: str) -> None:
    """Refuse what cannot be a token without asking the database. Raises `TokenRefused`."""
    if not (is_ulid(token_id) and _PROOF.fullmatch(proof)):
        raise TokenRefused(kind)


def use_up(tx: Transaction, *, kind: Kind, token_id: str, proof: str, at: str) -> str:
    """Take the token, so that nobody else gets in by it; return its wrapping. Raises `TokenRefused`."""
    now = now_ms(tx)
    row = tx.row(
        "UPDATE cluster_join_token SET used_ms = ?, used_from = ?"
        " WHERE id = ? AND verifier = ? AND kind = ? AND used_ms = 0 AND expires_ms > ? RETURNING wrapping",
        (now, at[:64], token_id, _verifier(proof), kind, now),
    )
    if row is None:
        raise TokenRefused(kind)
    return str(row[0])


def look_at(tx: Transaction, *, kind: Kind, token_id: str, proof: str) -> str:
    """The wrapping of a token that is good, which stays so. Raises `TokenRefused`."""
    check_form(kind, token_id=token_id, proof=proof)
    row = tx.row(
        "SELECT wrapping FROM cluster_join_token"
        " WHERE id = ? AND verifier = ? AND kind = ? AND used_ms = 0 AND expires_ms > ?",
        (token_id, _verifier(proof), kind, now_ms(tx)),
    )
    if row is None:
        raise TokenRefused(kind)
    return str(row[0])


def sealing_key(secrets: Secrets, token_id: str, wrapping: str) -> bytes:
    """The key that only the holder of the token has, too."""
    return secrets.unwrap(_name_of(token_id), wrapping)


def seal(key: bytes, token_id: str, bundle: Bundle) -> str:
    """The bundle as text that only `key` opens."""
    facts = {
        "format": FORMAT,
        "instance": bundle.instance,
        "keys": [urlsafe_b64encode(key).decode() for key in bundle.keyring.keys],
        "settings": dict(bundle.settings),
        "site": dict(bundle.site),
    }
    return seal_facts(key, token_id, facts)


def seal_facts(key: bytes, token_id: str, facts: Mapping[str, object]) -> str:
    """Anything as text that only `key` opens."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only who joins pays for it

    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, json.dumps(facts).encode(), _bound(token_id))
    return b64encode(nonce + sealed).decode()


def unseal(token: JoinToken, sealed: str) -> Bundle:
    """The inverse of `seal`. Raises `BundleUnreadable` for everything that did not come from the cluster."""
    facts = unseal_facts(token, sealed)
    if facts.get("format") != FORMAT:
        raise BundleUnreadable("the cluster runs a version that this one does not know: install the same")
    return _bundle_of(facts)


def unseal_facts(token: JoinToken, sealed: str) -> Mapping[str, object]:
    """The inverse of `seal_facts`. Raises `BundleUnreadable`."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only who joins pays for it
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - same

    try:
        content = b64decode(sealed, validate=True)
        nonce, rest = content[:_NONCE_BYTES], content[_NONCE_BYTES:]
        facts = json.loads(AESGCM(token.sealing_key).decrypt(nonce, rest, _bound(token.id)))
    except (InvalidTag, ValueError) as error:
        raise BundleUnreadable("the answer was not made for this token, or was changed on the way") from error
    if not isinstance(facts, dict):
        raise BundleUnreadable("the answer of the cluster is none")
    return facts


def _bundle_of(facts: Mapping[str, object]) -> Bundle:
    instance, keys, settings = facts.get("instance"), facts.get("keys"), facts.get("settings")
    site = facts.get("site", {})  # versions before sites say nothing
    if not (
        isinstance(instance, str)
        and isinstance(keys, list)
        and isinstance(settings, dict)
        and isinstance(site, dict)
    ):
        raise BundleUnreadable("the answer of the cluster lacks a part")
    try:
        keyring = KeyRing([urlsafe_b64decode(str(key)) for key in keys])
    except (ValueError, MasterKeyUnreadable) as error:
        raise BundleUnreadable(f"the answer of the cluster has no usable key: {error}") from error
    return Bundle(instance, keyring, _texts(settings), _texts(site))


def _texts(facts: Mapping[object, object]) -> dict[str, str]:
    return {str(name): str(value) for name, value in facts.items()}


def _derived(secret: bytes, purpose: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - only who joins pays for it
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415 - same

    info = b"mainstay join " + purpose
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(secret)


def _verifier(proof: str) -> str:
    return sha256(proof.encode()).hexdigest()


def _name_of(token_id: str) -> str:
    return f"join/{token_id}"


def _bound(token_id: str) -> bytes:
    return f"mainstay join bundle {token_id}".encode()
