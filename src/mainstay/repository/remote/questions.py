"""Questions and additions as they travel: JSON with a kind, every object name checked, nothing else let in.

A kind that this release does not know is `NotUnderstood`: there is no way to ask for a command of git.
"""

import re
from collections.abc import Mapping, Sequence

from mainstay.foundation.errors import Invalid
from mainstay.foundation.ids import is_ulid
from mainstay.git.objectnames import ZERO_OID, NotAnOid, Oid, RefName, oid, ref_name, shown
from mainstay.git.refs import check_pushed_name
from mainstay.repository.content import Refused
from mainstay.repository.questions import Addition, Ahead, CommitNamed, History, Objects, Question
from mainstay.repository.remote.strict import BadFields, Fields
from mainstay.storage.ledger import RefChange

_DIGITS = re.compile(r"[0-9a-f]{4,40}\Z")
_WRITABLE = (b"refs/heads/", b"refs/tags/")
_NUMBER_MAX = (1 << 31) - 1
_COMMITS_MAX = 1000
_NAME_CHARACTERS_MAX = 4096


class NotUnderstood(Invalid):
    """The caller needs something that this release does not know."""


def facts_of(question: Question) -> Mapping[str, object]:
    """The question as fields."""
    if isinstance(question, Objects):
        return {"ask": "objects", "oids": list(question.oids)}
    if isinstance(question, CommitNamed):
        return {"ask": "commit", "digits": question.digits, "visible": question.visible}
    if isinstance(question, History):
        return {"ask": "history", "start": question.start, "skip": question.skip, "limit": question.limit}
    return {"ask": "ahead", "tips": list(question.tips), "into": question.into}


def question_from(fields: Fields) -> Question:
    """The inverse. Raises `BadFields`, `NotUnderstood`."""
    kind = fields.text("ask")
    if kind == "objects":
        return Objects(oids=_oids(fields, "oids"))
    if kind == "commit":
        digits = fields.text("digits")
        if not _DIGITS.match(digits):
            raise BadFields("'digits' is no beginning of an object name")
        return CommitNamed(digits=digits, visible=fields.flag("visible"))
    if kind == "history":
        return History(
            start=_oid("start", fields.text("start")),
            skip=fields.whole("skip", least=0, most=_NUMBER_MAX),
            limit=fields.whole("limit", least=1, most=_COMMITS_MAX),
        )
    if kind == "ahead":
        return Ahead(tips=_oids(fields, "tips"), into=_oid("into", fields.text("into")))
    raise NotUnderstood(f"this release does not know the question {kind[:40]!r}")


def facts_of_addition(addition: Addition) -> Mapping[str, object]:
    """The addition as fields, without its repository and its objects."""
    change = addition.change
    return {
        "push_id": addition.push_id,
        "actor": addition.actor,
        "ref": shown(change.name),
        "old": change.old,
        "new": change.new,
        "peeled": change.peeled,
    }


def addition_from(fields: Fields, repository_id: int) -> Addition:
    """The inverse. Only branches and tags are written so, and nothing is deleted. Raises `BadFields`."""
    push_id = fields.text("push_id")
    if not is_ulid(push_id):
        raise BadFields("'push_id' is none")
    return Addition(
        push_id=push_id,
        repository_id=repository_id,
        actor=fields.text("actor"),
        change=RefChange(
            _ref(fields.text("ref", longest=_NAME_CHARACTERS_MAX)),
            _oid("old", fields.text("old")),
            _new(fields),
            None if fields.is_null("peeled") else _oid("peeled", fields.text("peeled")),
        ),
    )


def facts_of_refused(refused: Refused) -> Mapping[str, object]:
    """What a node answers to an addition."""
    return {"refused": [{"ref": shown(name), "because": reason} for name, reason in refused.items()]}


def refused_from(fields: Fields) -> Refused:
    """The inverse. Raises `BadFields`."""
    return {
        ref_name(each.text("ref", longest=_NAME_CHARACTERS_MAX)): each.text("because", longest=10_000)
        for each in fields.objects("refused")
    }


def _ref(text: str) -> RefName:
    try:
        name = ref_name(text)
    except UnicodeEncodeError:
        raise BadFields("'ref' is no name") from None
    if not name.startswith(_WRITABLE) or check_pushed_name(name) is not None:
        raise BadFields("'ref' is no branch or tag")
    return name


def _new(fields: Fields) -> Oid:
    new = _oid("new", fields.text("new"))
    if new == ZERO_OID:
        raise BadFields("'new' is nothing")
    return new


def _oids(fields: Fields, name: str) -> Sequence[Oid]:
    return tuple(_oid(name, each) for each in fields.texts(name))


def _oid(name: str, text: str) -> Oid:
    try:
        return oid(text)
    except NotAnOid:
        raise BadFields(f"{name!r} is no object name") from None
