"""Five families of errors, told apart by what the caller can do about them.

    MainstayError
    ├── Invalid      the request is wrong: fix it
    ├── NotAllowed   the actor may not (doors show it as not found where existence is secret)
    ├── NotFound     there is no such thing, or the actor may not know that there is
    ├── Conflict     the state moved: look again and retry
    └── Unavailable  something is away: retry later

`OutcomeUnknown` is none of them: a commit was sent and its answer never came. It is settled by
looking at the ledger, never by guessing; a door that cannot look hangs up.

The concrete class lives beside the code that raises it and derives from one family. One table in each
door turns a family into a status, a report line or an exit code. Anything else is a bug, logged once.
"""


class MainstayError(Exception):
    """Root of the five families. The message is facts in lower case, values quoted."""


class Invalid(MainstayError):
    """The request is wrong; repeating it unchanged is useless."""


class NotAllowed(MainstayError):
    """The actor is known and may not do this."""


class NotFound(MainstayError):
    """No such thing, or none that this actor may know of."""


class Conflict(MainstayError):
    """The state is not what the caller thought; look again and retry."""


class Unavailable(MainstayError):
    """A part this needs is away. `retry_after_s` is a hint for the client."""

    def __init__(self, message: str, *, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OutcomeUnknown(Exception):
    """A commit was sent and no answer came: it may or may not have happened."""
