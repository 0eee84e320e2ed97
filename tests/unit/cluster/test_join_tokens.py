"""Join tokens as text and as mathematics: what is shown, what is sealed, who can open it."""

from base64 import b64decode, b64encode
from dataclasses import replace

import pytest

from mainstay.cluster.joining import Bundle, BundleUnreadable, JoinToken, NotAToken, parse_token, seal, unseal
from mainstay.cluster.keyring import KeyRing, new_key
from mainstay.foundation.ids import new_ulid

TOKEN = JoinToken("01JD6Q9Z4M8W3N5V7X2Y1B0CDE", bytes(range(32)))
BUNDLE = Bundle(new_ulid(), KeyRing([new_key(), new_key()]), {"database_url": "postgresql://db/mainstay"})


def test_a_token_survives_being_typed() -> None:
    assert parse_token(f" {TOKEN.text}\n") == TOKEN
    assert TOKEN.text.replace("_", "").isalnum(), "a double click takes it whole"


@pytest.mark.parametrize(
    "text", ["", "mjt_x_y", TOKEN.text[:-1], TOKEN.text + "0", TOKEN.text.replace("mjt", "glpat")]
)
def test_another_text_is_no_token(text: str) -> None:
    with pytest.raises(NotAToken, match="not a join token"):
        parse_token(text)


def test_nothing_that_is_shown_contains_the_secret() -> None:
    secret = TOKEN.secret.hex()
    assert secret not in TOKEN.proof
    assert TOKEN.proof != TOKEN.sealing_key.hex()
    assert secret not in repr(TOKEN)
    assert replace(TOKEN, secret=bytes(32)).proof != TOKEN.proof


def test_the_bundle_comes_back_whole() -> None:
    found = unseal(TOKEN, seal(TOKEN.sealing_key, TOKEN.id, BUNDLE))
    assert (found.instance, found.keyring.keys, found.settings) == (
        BUNDLE.instance,
        BUNDLE.keyring.keys,
        BUNDLE.settings,
    )


def test_the_bundle_does_not_show() -> None:
    assert b"postgresql" not in b64decode(seal(TOKEN.sealing_key, TOKEN.id, BUNDLE))


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "not base64!",
        "AAAA",
        b64encode(b'{"format": 1}').decode(),
        seal(bytes(32), TOKEN.id, BUNDLE),
        seal(TOKEN.sealing_key, new_ulid(), BUNDLE),
    ],
    ids=["empty", "no-base64", "short", "plain", "another-key", "another-token"],
)
def test_nobody_in_between_can_forge_a_bundle(forged: str) -> None:
    with pytest.raises(BundleUnreadable, match="not made for this token"):
        unseal(TOKEN, forged)


def test_a_changed_bit_is_noticed() -> None:
    sealed = bytearray(b64decode(seal(TOKEN.sealing_key, TOKEN.id, BUNDLE)))
    sealed[40] ^= 1
    with pytest.raises(BundleUnreadable):
        unseal(TOKEN, b64encode(sealed).decode())
