"""Counting failed sign-ins per address, for all nodes, in the database.

One row per address. Ten failures within a minute ban the address for an hour; a success forgives nothing,
else an attacker with one account of their own could go on for ever. An IPv6 address counts as its /64,
because that is what one customer gets.
"""

import ipaddress
from functools import lru_cache

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.product.accounts.settings import AccountsSettings
from mainstay.storage.database import Database

log = get_logger()

_ROW_KEPT_MS = 24 * 3600 * 1000
_OTHER_MAX = 64

_COUNT = """
INSERT INTO accounts_failedsignin (address, window_started_ms, failures, banned_until_ms)
VALUES (?, ?, 1, 0)
ON CONFLICT (address) DO UPDATE SET
  failures = CASE WHEN accounts_failedsignin.window_started_ms <= ? THEN 1
    ELSE accounts_failedsignin.failures + 1 END,
  window_started_ms = CASE WHEN accounts_failedsignin.window_started_ms <= ? THEN excluded.window_started_ms
    ELSE accounts_failedsignin.window_started_ms END
RETURNING failures
"""


class TooManyAttempts(Unavailable):
    """The address failed to sign in too often and has to wait."""


def counted_as(address: str, settings: AccountsSettings) -> str | None:
    """The key under which failures of `address` are counted, or None when they are not."""
    try:
        parsed = _parsed(address)
    except ValueError:
        # Not an address, such as the name of a socket: these are counted together when they are odd.
        return address if 0 < len(address) <= _OTHER_MAX and address.isprintable() else "unknown"
    if any(parsed in network for network in _networks(settings.never_banned)):
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def refuse_banned(banned_until_ms: int | None, clock: Clock) -> None:
    """Raise `TooManyAttempts` while the ban lasts."""
    left_ms = (banned_until_ms or 0) - clock.now_ms()
    if left_ms > 0:
        seconds = -(-left_ms // 1000)
        raise TooManyAttempts(f"too many failed sign-ins; try again in {seconds} s", retry_after_s=seconds)


def count_failure(database: Database, key: str, clock: Clock, settings: AccountsSettings) -> None:
    """Count one failure, and ban when it was one too many."""
    now_ms = clock.now_ms()
    window_ms = now_ms - settings.failures_window_s * 1000
    with database.write() as transaction:
        row = transaction.row(_COUNT, (key, now_ms, window_ms, window_ms))
        assert row is not None, "RETURNING returns the row"
        failures = int(row[0])
        if failures >= settings.failures_max:
            transaction.execute(
                "UPDATE accounts_failedsignin SET banned_until_ms = ? WHERE address = ?",
                (now_ms + settings.ban_s * 1000, key),
            )
    if failures >= settings.failures_max:
        log.warning("accounts.address_banned", address=key, failures=failures, ban_s=settings.ban_s)


def forget_old_failures(database: Database, clock: Clock) -> int:
    """Drop rows whose window and ban are long over; for a daily job."""
    before_ms = clock.now_ms() - _ROW_KEPT_MS
    with database.write() as transaction:
        return transaction.execute(
            "DELETE FROM accounts_failedsignin WHERE window_started_ms < ? AND banned_until_ms < ?",
            (before_ms, before_ms),
        )


@lru_cache(maxsize=4096)
def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address without its zone, an IPv4 one mapped into IPv6 as IPv4. Raises `ValueError`."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


@lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)
