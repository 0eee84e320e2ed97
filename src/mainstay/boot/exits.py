"""How a process says how it ended."""

from collections.abc import Mapping

from mainstay.foundation.errors import Conflict, Invalid, MainstayError, NotAllowed, NotFound, Unavailable

EXIT_CODES: Mapping[type[MainstayError], int] = {
    Invalid: 2,
    NotAllowed: 3,
    NotFound: 4,
    Conflict: 5,
    Unavailable: 6,
}
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
"""As if SIGPIPE had ended us: whoever read our output has gone."""


def exit_code_of(error: MainstayError) -> int:
    """The code of the error's family."""
    return next((code for family, code in EXIT_CODES.items() if isinstance(error, family)), 1)
