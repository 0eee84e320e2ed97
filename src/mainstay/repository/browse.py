"""Look into a repository: branches, tags, commits, and what a revision means.

Refs come from the ledger and are as fresh as the call. Objects come from a `ContentFace`, this process or
another node, by one question per call, whatever the number of objects. What a user typed reaches git only as
hexadecimal digits, and an object that was named by them is told of only if a visible ref leads to it: a copy
also holds what a force push took away, what only hidden refs reach, and what a fork's source keeps.

Not here: may the actor look (`product`), files and diffs.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

from mainstay.foundation.errors import Invalid
from mainstay.git.objectnames import ZERO_OID, Oid, RefName, oid, ref_name
from mainstay.repository.content import BrokenOff
from mainstay.repository.face import ContentFace
from mainstay.repository.questions import Ahead, CommitNamed, History, Objects, Question
from mainstay.storage.ledger import Ledger, Ref

BRANCHES = b"refs/heads/"
TAGS = b"refs/tags/"
OBJECTS_MAX = 1000
"""Objects that one call reads."""
_ANSWER_BYTES_MAX = 64 << 20
_ATTEMPTS_MAX = 2

_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{7,40}\Z")
_SIGNATURE = re.compile(
    rb"(?P<name>[^<]*?) ?<(?P<email>[^>]*)> (?P<at>-?[0-9]{1,15}) (?P<sign>[+-])(?P<zone>[0-9]{4})\Z"
)


class TooLargeToShow(Invalid):
    """The objects asked for do not fit the limit of one answer."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who and when: the author of a commit, the tagger of a tag."""

    name: str
    email: str
    at_s: int
    zone_minutes: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    oid: Oid
    tree: Oid
    parents: tuple[Oid, ...]
    author: Signature
    committer: Signature
    message: str


@dataclass(frozen=True, slots=True)
class Tag:
    """An annotated tag object."""

    oid: Oid
    target: Oid
    name: str
    tagger: Signature | None
    message: str


class Browser:
    """Read one repository at a time, named by its id in the ledger."""

    def __init__(self, *, ledger: Ledger, content: ContentFace) -> None:
        self._ledger = ledger
        self._content = content

    def branches(self, repository_id: int) -> list[Ref]:
        """All branches, sorted by name as bytes."""
        return self._refs_under(repository_id, BRANCHES)

    def tags(self, repository_id: int) -> list[Ref]:
        """All tags, sorted by name as bytes."""
        return self._refs_under(repository_id, TAGS)

    def branch(self, repository_id: int, name: str) -> Ref | None:
        return self._ref(repository_id, BRANCHES + ref_name(name))

    def tag(self, repository_id: int, name: str) -> Ref | None:
        return self._ref(repository_id, TAGS + ref_name(name))

    def default_branch(self, repository_id: int) -> RefName | None:
        """Where HEAD points, or None when that branch does not exist (yet)."""
        head = self._ledger.repository(repository_id).head
        return head if self._ref(repository_id, head) else None

    def default_branches(self, repository_ids: Sequence[int]) -> dict[int, RefName]:
        """`default_branch` of many repositories, in one look; without those that have none."""
        return self._ledger.default_branches(repository_ids)

    def read_commits(self, repository_id: int, oids: Sequence[Oid]) -> dict[Oid, Commit]:
        """The commits among `oids`. What is missing, or is no commit, is left out."""
        return {
            name: commit_from(name, body)
            for name, kind, body in self._objects(repository_id, oids)
            if kind == "commit"
        }

    def read_tags(self, repository_id: int, oids: Sequence[Oid]) -> dict[Oid, Tag]:
        """The annotated tags among `oids`."""
        return {
            name: tag_from(name, body)
            for name, kind, body in self._objects(repository_id, oids)
            if kind == "tag"
        }

    def resolve(self, repository_id: int, revision: str) -> Oid | None:
        """The commit that a branch, a tag, a full ref name, `HEAD` or (part of) an object name means.

        None, too, for a commit that no visible ref leads to.

        Branches come before tags, so that nobody can hide a branch behind a tag of its name.
        """
        for name in self._candidates(repository_id, revision):
            ref = self._ref(repository_id, name)
            if ref is not None:
                return self._commit_of(repository_id, ref)
        if _HEXADECIMAL.match(revision):
            return self._commit_named(repository_id, revision.lower(), visible=True)
        return None

    def history(self, repository_id: int, start: Oid, *, skip: int, limit: int) -> list[Commit]:
        """Commits reachable from `start`, newest first."""
        if limit > OBJECTS_MAX:
            raise TooLargeToShow(f"at most {OBJECTS_MAX} commits are read at once, not {limit}")
        told = self._told(repository_id, History(start=start, skip=skip, limit=limit))
        return [commit_from(name, body) for name, kind, body in _batch(told) if kind == "commit"]

    def is_ancestor(self, repository_id: int, ancestor: Oid, descendant: Oid) -> bool:
        """Whether `descendant` contains `ancestor`."""
        if ancestor == descendant:
            return True
        return not self.not_merged(repository_id, [ancestor], descendant)

    def not_merged(self, repository_id: int, tips: Sequence[Oid], into: Oid) -> set[Oid]:
        """Those of `tips` that have commits which `into` lacks: one process for all of them."""
        wanted = set(tips) - {into}
        if not wanted:
            return set()
        told = self._told(repository_id, Ahead(tips=tuple(sorted(wanted)), into=into))
        return {oid(line) for line in told.split()}

    def _candidates(self, repository_id: int, revision: str) -> list[RefName]:
        if revision == "HEAD":
            return [self._ledger.repository(repository_id).head]
        name = ref_name(revision)
        if name.startswith(b"refs/"):
            return [name] if name.startswith((BRANCHES, TAGS)) else []
        return [RefName(BRANCHES + name), RefName(TAGS + name)]

    def _commit_of(self, repository_id: int, ref: Ref) -> Oid | None:
        """A branch is always a commit; a tag may also name a blob or a tree, which no revision means."""
        if ref.name.startswith(BRANCHES):
            return ref.oid
        return self._commit_named(repository_id, ref.peeled or ref.oid, visible=False)

    def _commit_named(self, repository_id: int, digits: str, *, visible: bool) -> Oid | None:
        told = self._told(repository_id, CommitNamed(digits=digits, visible=visible)).strip()
        return oid(told) if told else None

    def _refs_under(self, repository_id: int, prefix: bytes) -> list[Ref]:
        return [ref for ref in self._ledger.refs(repository_id)[1] if ref.name.startswith(prefix)]

    def _ref(self, repository_id: int, name: bytes) -> Ref | None:
        found = self._ledger.refs_named(repository_id, [RefName(name)])[1]
        return found[0] if found else None

    def _objects(self, repository_id: int, oids: Sequence[Oid]) -> list[tuple[Oid, str, bytes]]:
        wanted = [name for name in dict.fromkeys(oids) if name != ZERO_OID]
        if not wanted:
            return []
        if len(wanted) > OBJECTS_MAX:
            raise TooLargeToShow(f"at most {OBJECTS_MAX} objects are read at once, not {len(wanted)}")
        return list(_batch(self._told(repository_id, Objects(oids=tuple(wanted)))))

    def _told(self, repository_id: int, question: Question) -> bytes:
        """The whole of an answer that is small enough to be shown. One that broke off is asked for again."""
        for _ in range(_ATTEMPTS_MAX - 1):
            try:
                return self._told_once(repository_id, question)
            except BrokenOff:
                continue
        return self._told_once(repository_id, question)

    def _told_once(self, repository_id: int, question: Question) -> bytes:
        answer = bytearray()

        def hear(piece: bytes) -> None:
            answer.extend(piece)
            if len(answer) > _ANSWER_BYTES_MAX:
                raise TooLargeToShow("these objects are too large to be shown together")

        self._content.ask(repository_id, question, hear=hear)
        return bytes(answer)


def _batch(output: bytes) -> Iterator[tuple[Oid, str, bytes]]:
    """Parse `cat-file --batch`: `<oid> <type> <size>` LF, the content, LF; or `<oid> missing` LF."""
    stream = BytesIO(output)
    while line := stream.readline():
        words = line.split()
        if len(words) != 3:  # noqa: PLR2004 - name, type, size; anything else has no content
            continue
        yield oid(words[0]), words[1].decode(), stream.read(int(words[2]))
        stream.read(1)


def commit_from(name: Oid, body: bytes) -> Commit:
    """Read a commit leniently: old repositories hold every oddity, and each of them must still show."""
    headers, message = _split(body)
    encoding = _first(headers, b"encoding").decode("ascii", "replace")
    nobody = Signature("", "", 0)
    return Commit(
        oid=name,
        tree=Oid(_first(headers, b"tree").decode("ascii", "replace")),
        parents=tuple(Oid(value.decode("ascii", "replace")) for key, value in headers if key == b"parent"),
        author=_signature(_first(headers, b"author"), encoding) or nobody,
        committer=_signature(_first(headers, b"committer"), encoding) or nobody,
        message=_text(message, encoding),
    )


def tag_from(name: Oid, body: bytes) -> Tag:
    headers, message = _split(body)
    return Tag(
        oid=name,
        target=Oid(_first(headers, b"object").decode("ascii", "replace")),
        name=_text(_first(headers, b"tag"), ""),
        tagger=_signature(_first(headers, b"tagger"), ""),
        message=_text(message, ""),
    )


def _split(body: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers (continuation lines dropped: they are signatures) and message."""
    head, _, message = body.partition(b"\n\n")
    lines = [line for line in head.split(b"\n") if not line.startswith(b" ")]
    return [(key, value) for key, _, value in (line.partition(b" ") for line in lines)], message


def _first(headers: Sequence[tuple[bytes, bytes]], key: bytes) -> bytes:
    return next((value for name, value in headers if name == key), b"")


def _signature(line: bytes, encoding: str) -> Signature | None:
    match = _SIGNATURE.match(line)
    if match is None:
        return None
    hours, minutes = divmod(int(match["zone"]), 100)
    minutes_east = (hours * 60 + minutes) * (-1 if match["sign"] == b"-" else 1)
    return Signature(
        name=_text(match["name"], encoding),
        email=_text(match["email"], encoding),
        at_s=int(match["at"]),
        zone_minutes=minutes_east,
    )


def _text(content: bytes, encoding: str) -> str:
    """UTF-8 unless the commit says otherwise; NUL cannot be shown and is left out."""
    try:
        text = content.decode(encoding or "utf-8", "replace")
    except LookupError:
        text = content.decode("utf-8", "replace")
    return text.replace("\x00", "")
