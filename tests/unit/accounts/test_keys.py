"""Public keys as people paste them."""

import base64

import pytest

from mainstay.product.accounts.keys import BadSshKey, fingerprint_of_line, parse_public_key
from support.product import public_key, security_key

# Made once with `ssh-keygen -t ed25519`; the fingerprint is what `ssh-keygen -lf` printed.
KNOWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIKeZc5YNQBOU2IE6FDj9035oFrBujOigLZfKqfPK8fY ada@laptop"
FINGERPRINT = "SHA256:RtIQPWpn2hp5AjW+Vq93zb2pGHJfIWSgr7S9WE2CrwM"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa256", "ecdsa384", "ecdsa521", "rsa2048"])
def test_strong_keys_are_taken_without_their_comment(kind: str) -> None:
    line = public_key(kind)
    parsed = parse_public_key(f"  {line}   ada @ laptop \n")
    assert parsed.line == line
    assert parsed.comment == "ada @ laptop"
    assert parsed.fingerprint == fingerprint_of_line(*line.split())


def test_keys_of_security_tokens_are_taken() -> None:
    line = security_key()
    assert parse_public_key(line).line == line


def test_a_fingerprint_is_what_openssh_prints() -> None:
    assert parse_public_key(KNOWN).fingerprint == FINGERPRINT


def _damaged(line: str) -> str:
    kind, encoded = line.split()
    blob = bytearray(base64.b64decode(encoded))
    return f"{kind} {base64.b64encode(bytes(blob[:-1])).decode()}"


ED = public_key()
REFUSED = {
    "empty": "",
    "one word": "ssh-ed25519",
    "options": f'command="sh" {ED}',
    "environment": f'environment="LD_PRELOAD=x" {ED}',
    "two lines": f"{ED}\n{ED}",
    "carriage return": f"{ED}\r{ED}",
    "null": f"{ED}\0",
    "certificate": f"ssh-ed25519-cert-v01@openssh.com {ED.split()[1]}",
    "dsa": f"ssh-dss {ED.split()[1]}",
    "other type than said": f"ssh-rsa {ED.split()[1]}",
    "not base64": "ssh-ed25519 AAAA!!!!",
    "truncated": _damaged(ED),
    "trailing bytes": f"ssh-ed25519 {base64.b64encode(base64.b64decode(ED.split()[1]) + b'x').decode()}",
    "private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "weak rsa": public_key("rsa1024"),
    "huge": f"ssh-rsa {'A' * 20_000}",
    "markup": "<script> alert",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(BadSshKey) as refusal:
        parse_public_key(text)
    assert len(str(refusal.value)) > 20


def test_the_refusal_says_what_to_do() -> None:
    with pytest.raises(BadSshKey, match=r"ssh-keygen -t ed25519"):
        parse_public_key(REFUSED["dsa"])
    with pytest.raises(BadSshKey, match="needs 2048 to 16384 bits, this one has 1024"):
        parse_public_key(REFUSED["weak rsa"])
