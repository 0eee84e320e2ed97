"""Limits of Git over SSH."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """Git over SSH."""

    user: str = "git"
    """The only user name; who somebody is, the key says."""
    connections_max: int = 1000
    """Connections of this process; more are closed at once."""
    connections_before_login_max: int = 100
    """Connections that have not signed in yet; more are closed at once."""
    connections_before_login_per_address_max: int = 50
    """The same from one address, so that one stranger cannot keep everybody out."""
    handshake_s_max: float = 15.0
    """Until the key exchange is done: no human is needed for that."""
    login_s_max: float = 30.0
    """Until a key is proved; a human may have to unlock it."""
    keys_offered_max: int = 20
    """Keys that one connection may offer; the rest are refused unseen."""
    sessions_per_connection_max: int = 10
    """Channels open at a time on one connection (OpenSSH's ControlMaster shares one)."""
    command_s_max: float = 30.0
    """From the opening of a channel to its command."""
    idle_s_max: float = 600.0
    """Longest silence in a conversation: a client that packs a large push says nothing for minutes."""
    unused_s_max: float = 900.0
    """Longest life of a signed-in connection without a session."""
    keepalive_s: float = 30.0
    """How often a silent client is asked whether it is there; after three without an answer it is gone."""
    hold_s: float = 0.0
    """How long a key or a command waits at its beginning for a database that is away."""
    held_max: int = 200
    """Keys and commands that wait so; more are refused at once. As many pushes wait for a failover."""
    gate_threads: int = 8
    """Threads that ask the database who may."""
