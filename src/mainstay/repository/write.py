"""Change a repository without a Git client: branches and tags for the API, the first commit of a project.

Each change takes the same road as a push: judged by the same rules, its objects checked by git in
quarantine, made durable by `storage.push`. So it is logged, journaled and undone like one. What brings
objects goes to a `ContentFace`, this process or another node; what only moves refs needs no git.

Not here: may the actor write to the project at all (`product`).
"""

from collections.abc import Mapping, Sequence
from io import BytesIO

from mainstay.access.policy import Decision, Deny, PushRules, RefAction, decide_ref_update
from mainstay.access.roles import Role
from mainstay.foundation.errors import Conflict, Invalid, NotAllowed, NotFound
from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import ZERO_OID, Oid, RefName, ref_name, shown
from mainstay.git.refs import check_pushed_name
from mainstay.repository import composing
from mainstay.repository.browse import BRANCHES, TAGS, Signature
from mainstay.repository.content import Refused, commit
from mainstay.repository.face import ContentFace
from mainstay.repository.questions import Addition
from mainstay.storage.ledger import Ledger, RefChange
from mainstay.storage.push import PushStore


class RefRefused(NotAllowed):
    """The rules of the project do not let this actor change this ref; the message says why."""


class RefMoved(Conflict):
    """The ref is not, or no longer, what the change supposed."""


class NoSuchRef(NotFound):
    """There is no such branch or tag."""


class BadRefName(Invalid):
    """No ref can have this name."""


class HeadBranchStays(Invalid):
    """The default branch is deleted only after another one became the default."""


class Writer:
    """Write to one repository at a time, named by its id in the ledger."""

    def __init__(self, *, ledger: Ledger, content: ContentFace, pushes: PushStore) -> None:
        self._ledger = ledger
        self._content = content
        self._pushes = pushes

    def create_branch(self, repository_id: int, name: RefName, at: Oid, *, rules: PushRules) -> None:
        """A new branch `refs/heads/…` at the commit `at`. Raises `RefMoved` when it is there already."""
        _check(decide_ref_update(name, RefAction.CREATE, rules))
        self._commit(repository_id, RefChange(name, ZERO_OID, at), rules=rules)

    def create_tag(
        self,
        repository_id: int,
        name: RefName,
        at: Oid,
        *,
        rules: PushRules,
        message: str = "",
        tagger: Signature | None = None,
    ) -> Oid:
        """A new tag `refs/tags/…`, annotated if there is a message. Returns what the ref points to."""
        _check(decide_ref_update(name, RefAction.CREATE, rules))
        if not message or tagger is None:
            self._commit(repository_id, RefChange(name, ZERO_OID, at), rules=rules)
            return at
        annotated = composing.tag(
            target=at, target_kind="commit", name=name.removeprefix(TAGS), tagger=tagger, message=message
        )
        change = RefChange(name, ZERO_OID, annotated.oid, at)
        self._commit_objects(repository_id, [annotated], change, rules=rules)
        return annotated.oid

    def delete_ref(self, repository_id: int, name: RefName, *, rules: PushRules) -> None:
        """Delete a branch or tag. Its commits stay in the reflog, so that it can be restored."""
        _check(decide_deletion(name, rules))
        if name == self._ledger.repository(repository_id).head:
            raise HeadBranchStays("Cannot remove HEAD branch")
        _, found = self._ledger.refs_named(repository_id, [name])
        if not found:
            raise NoSuchRef(f"{'Branch' if name.startswith(BRANCHES) else 'Tag'} Not Found")
        self._commit(repository_id, RefChange(name, found[0].oid, ZERO_OID), rules=rules)

    def initial_commit(
        self,
        repository_id: int,
        branch: RefName,
        *,
        files: Mapping[str, bytes],
        author: Signature,
        message: str,
        rules: PushRules,
    ) -> Oid:
        """The first commit of an empty repository, with `files` at its top."""
        blobs = {name: composing.blob(content) for name, content in files.items()}
        tree = composing.tree_of_files({name: each.oid for name, each in blobs.items()})
        first = composing.commit(tree=tree.oid, parents=[], author=author, message=message)
        objects = list({each.oid: each for each in [*blobs.values(), tree, first]}.values())
        self._commit_objects(repository_id, objects, RefChange(branch, ZERO_OID, first.oid), rules=rules)
        return first.oid

    def _commit_objects(
        self,
        repository_id: int,
        objects: Sequence[composing.GitObject],
        change: RefChange,
        *,
        rules: PushRules,
    ) -> None:
        addition = _addition(repository_id, change, rules)
        _check_moved(self._content.add(addition, BytesIO(composing.pack_of(objects))))

    def _commit(self, repository_id: int, change: RefChange, *, rules: PushRules) -> None:
        repository = self._ledger.repository(repository_id)
        addition = _addition(repository_id, change, rules)
        _check_moved(commit(addition, repository, [], pushes=self._pushes))


def _addition(repository_id: int, change: RefChange, rules: PushRules) -> Addition:
    return Addition(push_id=new_ulid(), repository_id=repository_id, change=change, actor=rules.actor.label)


def _check_moved(refused: Refused) -> None:
    for name, reason in refused.items():
        raise RefMoved(f"{shown(name)}: {reason}")


def branch_ref(name: str) -> RefName:
    """The full name of a branch, as a user typed it. Raises `BadRefName`."""
    return _checked_name(BRANCHES, name)


def tag_ref(name: str) -> RefName:
    """The full name of a tag, as a user typed it. Raises `BadRefName`."""
    return _checked_name(TAGS, name)


def _checked_name(prefix: bytes, name: str) -> RefName:
    full = RefName(prefix + ref_name(name))
    reason = check_pushed_name(full)
    # As git does for what people type: a branch called `-x` is nothing but trouble later.
    if reason is None and name.startswith("-"):
        reason = "it starts with '-'"
    if reason is not None:
        raise BadRefName(f"{name[:100]!r} cannot be a name: {reason}")
    return full


def decide_deletion(name: RefName, rules: PushRules) -> Decision:
    """As by a push, except that maintainers may delete protected refs on purpose: GitLab's rule."""
    if rules.role >= Role.MAINTAINER and name.startswith((BRANCHES, TAGS)):
        unprotected = PushRules(actor=rules.actor, role=rules.role)
        return decide_ref_update(name, RefAction.DELETE, unprotected)
    return decide_ref_update(name, RefAction.DELETE, rules)


def _check(decision: Decision) -> None:
    if isinstance(decision, Deny):
        raise RefRefused(decision.because)
