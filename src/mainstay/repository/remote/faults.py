"""The five families of errors on the wire, with their sentences, and back.

The class beside the raising code stays there; what arrives is the family, because that is what a caller can
act on. A family that this release does not know becomes `Unavailable`: the other node is newer than we are.
"""

import json
from collections.abc import Mapping

from mainstay.foundation.errors import (
    Conflict,
    Invalid,
    MainstayError,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from mainstay.repository.remote.strict import Fields, fields_of

_FAMILIES: Mapping[str, type[MainstayError]] = {
    "invalid": Invalid,
    "not_allowed": NotAllowed,
    "not_found": NotFound,
    "conflict": Conflict,
    "unavailable": Unavailable,
}
_UNKNOWN = "outcome_unknown"
_SENTENCE_CHARACTERS_MAX = 4000
_RETRY_AFTER_S_MAX = 3600


class FailedThere(Unavailable):
    """Something went wrong on the other node that is no error of ours; it is in its log."""


def said(error: MainstayError | OutcomeUnknown) -> bytes:
    """The error as JSON."""
    facts: dict[str, object] = {
        "family": _family_of(error),
        "sentence": str(error)[:_SENTENCE_CHARACTERS_MAX],
    }
    if isinstance(error, Unavailable):
        facts["retry_after_s"] = error.retry_after_s
    return json.dumps(facts).encode()


def heard(body: bytes) -> MainstayError | OutcomeUnknown:
    """The error that the other node said. Raises `Invalid` when it is not even that."""
    fields = fields_of(body)
    family = fields.text("family")
    sentence = fields.text("sentence", longest=_SENTENCE_CHARACTERS_MAX)
    if family == _UNKNOWN:
        return OutcomeUnknown(sentence)
    found = _FAMILIES.get(family, FailedThere)
    if issubclass(found, Unavailable):
        return found(sentence, retry_after_s=_retry_after_s(fields))
    return found(sentence)


def _retry_after_s(fields: Fields) -> int:
    return fields.whole("retry_after_s", least=0, most=_RETRY_AFTER_S_MAX, default=5)


def _family_of(error: MainstayError | OutcomeUnknown) -> str:
    if isinstance(error, OutcomeUnknown):
        return _UNKNOWN
    return next(name for name, family in _FAMILIES.items() if isinstance(error, family))
