"""Passwords: cost, memory and strength."""

from dataclasses import replace
from unittest import mock

import pytest

from mainstay.foundation.clock import ManualClock
from mainstay.product.accounts.passwords import (
    Passwords,
    TooBusy,
    WeakPassword,
    check_password,
    hash_of,
    needs_rehash,
)
from mainstay.product.accounts.settings import DEFAULTS
from support.product import QUICK


def counted(passwords: Passwords) -> mock.Mock:
    """Counts the hashes that `passwords` computes from now on."""
    spy = mock.Mock(wraps=passwords._compute)
    passwords._compute = spy  # type: ignore[method-assign]
    return spy


def test_a_password_fits_its_hash_only() -> None:
    passwords = Passwords(QUICK, ManualClock())
    kept = hash_of("correct horse", QUICK)
    assert passwords.fits("correct horse", kept)
    assert not passwords.fits("correct horsf", kept)
    assert not passwords.fits("", kept)


def test_the_hash_is_argon2id_of_the_recommended_cost() -> None:
    assert hash_of("correct horse", DEFAULTS).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_equal_passwords_have_different_hashes() -> None:
    assert hash_of("correct horse", QUICK) != hash_of("correct horse", QUICK)


def test_a_fitting_password_is_not_computed_again_for_a_minute() -> None:
    clock = ManualClock()
    passwords = Passwords(QUICK, clock)
    kept = hash_of("correct horse", QUICK)
    spy = counted(passwords)
    assert passwords.fits("correct horse", kept)
    assert passwords.fits("correct horse", kept)
    assert spy.call_count == 1
    clock.advance(QUICK.verified_password_s + 1)
    assert passwords.fits("correct horse", kept)
    assert spy.call_count == 2


def test_what_is_remembered_is_worthless_for_a_changed_password() -> None:
    passwords = Passwords(QUICK, ManualClock())
    assert passwords.fits("correct horse", hash_of("correct horse", QUICK))
    assert not passwords.fits("correct horse", hash_of("battery staple", QUICK))


def test_a_wrong_password_is_never_remembered() -> None:
    passwords = Passwords(QUICK, ManualClock())
    kept = hash_of("correct horse", QUICK)
    spy = counted(passwords)
    assert [passwords.fits("wrong", kept) for _ in range(3)] == [False] * 3
    assert spy.call_count == 3


def test_somebody_without_a_password_costs_as_much_and_fits_nothing() -> None:
    passwords = Passwords(QUICK, ManualClock())
    spy = counted(passwords)
    assert not passwords.fits("", "")
    assert not passwords.fits("anything", "")
    assert spy.call_count == 2


def test_an_endless_password_is_not_hashed() -> None:
    passwords = Passwords(QUICK, ManualClock())
    assert not passwords.fits("x" * 10_000_000, hash_of("correct horse", QUICK))


def test_a_full_memory_starts_anew() -> None:
    passwords = Passwords(QUICK, ManualClock())
    kept = hash_of("correct horse", QUICK)
    with mock.patch("mainstay.product.accounts.passwords._REMEMBERED_MAX", 1):
        assert passwords.fits("correct horse", kept)
        assert passwords.fits("battery staple", hash_of("battery staple", QUICK))
    assert len(passwords._remembered) == 1


def test_more_sign_ins_than_allowed_at_once_wait_and_then_are_refused() -> None:
    passwords = Passwords(replace(QUICK, password_checks_max=1), ManualClock())
    passwords._turns.acquire()
    with mock.patch("mainstay.product.accounts.passwords._WAIT_FOR_TURN_S", 0.01), pytest.raises(TooBusy):
        passwords.fits("correct horse", hash_of("correct horse", QUICK))
    passwords._turns.release()
    assert passwords.fits("correct horse", hash_of("correct horse", QUICK))


def test_another_cost_asks_for_another_hash() -> None:
    kept = hash_of("correct horse", QUICK)
    assert not needs_rehash(kept, QUICK)
    assert needs_rehash(kept, replace(QUICK, argon2_passes=2))


@pytest.mark.parametrize(
    "password", ["", "short", "a" * 129, "aaaaaaaaaaaa", "lovelace", "LOVELACE", "glpat-12345678901234567890"]
)
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(WeakPassword):
        check_password(password, username="lovelace", settings=QUICK)


def test_a_long_sentence_in_any_language_is_fine() -> None:
    check_password("пароль из четырёх слов 🔑", username="lovelace", settings=QUICK)
    kept = hash_of("пароль из четырёх слов 🔑", QUICK)
    assert Passwords(QUICK, ManualClock()).fits("пароль из четырёх слов 🔑", kept)
