"""Limits of the door for other nodes. Every wait has one; bodies are as long as pushes may be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesSettings:
    """Requests of other nodes."""

    requests_max: int = 128
    """Requests that this process serves at a time; more wait."""
    waiting_max: int = 256
    """Requests that wait; more are answered 503 at once."""
    waiting_s_max: float = 2.5
    """Longest wait before a 503: the caller asks another node."""
    parameters_s_max: float = 10.0
    """From the head of a request to its parameters."""
    silence_s_max: float = 30.0
    """Longest silence of a caller in the middle of its body; it says every few seconds that it lives."""
    alive_s: float = 5.0
    """How often we say so."""
    stuck_s_max: float = 900.0
    """How long a caller may take nothing; its own client may be slow, and has its own limit."""
