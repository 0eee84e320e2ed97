"""How strict the front door is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsSettings:
    """Passwords and failed sign-ins. The defaults are what we recommend."""

    argon2_passes: int = 2
    argon2_memory_kib: int = 19 * 1024
    argon2_lanes: int = 1
    """These three are OWASP's first choice for argon2id; a change re-hashes at the next sign-in."""
    password_checks_max: int = 4
    """Hashes computed at once in one process, so that a storm of sign-ins has a memory limit."""
    password_characters_min: int = 8
    verified_password_s: int = 60
    """How long one process remembers that a password fitted a hash."""
    failures_max: int = 10
    """So many failures of one address within `failures_window_s` ban it for `ban_s`."""
    failures_window_s: int = 60
    ban_s: int = 3600
    never_banned: tuple[str, ...] = ()
    """Networks such as `10.0.0.0/8` whose failures are not counted."""
    initial_password_s: int = 24 * 3600
    """How long the file with root's first password is kept when nobody changes the password."""


DEFAULTS = AccountsSettings()
