"""What goes wrong in a chore is said, and done again: it never ends the thread of all chores."""

import pytest
from django.db import InterfaceError, OperationalError

from mainstay.boot.worker import _try
from mainstay.foundation.errors import OutcomeUnknown, Unavailable


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("refused"),
        InterfaceError("closed"),
        Unavailable("away"),
        OutcomeUnknown("lost"),
        OSError("x"),
    ],
)
def test_a_chore_that_fails_ends_alone(error: Exception) -> None:
    tried: list[str] = []

    def fail() -> None:
        tried.append("tried")
        raise error

    _try("a chore", fail)
    assert tried == ["tried"]


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        _try("a chore", lambda: 1 // 0)
