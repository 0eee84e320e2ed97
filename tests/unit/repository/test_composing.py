"""Objects that the server makes are read by an independent implementation as what they were meant to be."""

import hashlib
from io import BytesIO

import pytest
from dulwich.objects import Blob, Commit, ShaFile, Tag, Tree
from dulwich.pack import PackStreamReader

from mainstay.git.objectnames import Oid
from mainstay.repository import composing
from mainstay.repository.browse import Signature, commit_from, tag_from

ADA = Signature("Ada <Love>\nlace", "ada@example.org", 1_700_000_000, -90)


def read_by_dulwich(each: composing.GitObject) -> ShaFile:
    kind = {1: Commit, 2: Tree, 3: Blob, 4: Tag}[each.kind]
    found = kind.from_string(each.body)
    found.check()
    assert found.id.decode() == each.oid
    return found


def test_names_are_those_of_git() -> None:
    assert composing.blob(b"hello\n").oid == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert composing.tree_of_files({}).oid == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def test_a_commit_of_files_and_its_tag_are_sound() -> None:
    readme = composing.blob(b"# engine\n")
    tree = composing.tree_of_files({"b.md": readme.oid, "a.md": readme.oid})
    commit = composing.commit(tree=tree.oid, parents=[], author=ADA, message="Start.\r\n\r\nNow.")
    tag = composing.tag(target=commit.oid, target_kind="commit", name=b"v1", tagger=ADA, message="First")
    assert [entry.path for entry in read_by_dulwich(tree).items()] == [b"a.md", b"b.md"]
    assert read_by_dulwich(commit).message == b"Start.\n\nNow.\n"
    assert read_by_dulwich(tag).object[1].decode() == commit.oid


def test_a_name_cannot_forge_a_header() -> None:
    commit = composing.commit(tree=composing.tree_of_files({}).oid, parents=[], author=ADA, message="x")
    assert b"author Ada Lovelace <ada@example.org> 1700000000 -0130\n" in commit.body


def test_what_was_written_is_read_back() -> None:
    tree = composing.tree_of_files({}).oid
    written = composing.commit(tree=tree, parents=[Oid("1" * 40)], author=ADA, message="Zeile ü")
    read = commit_from(written.oid, written.body)
    assert (read.tree, read.parents, read.message) == (tree, ("1" * 40,), "Zeile ü\n")
    assert read.author == Signature("Ada Lovelace", "ada@example.org", 1_700_000_000, -90)
    tag = composing.tag(target=written.oid, target_kind="commit", name=b"v1", tagger=ADA, message="m")
    assert tag_from(tag.oid, tag.body).target == written.oid


@pytest.mark.parametrize("size", [0, 15, 16, 2047, 2048, 300_000])
def test_a_pack_holds_the_objects(size: int) -> None:
    objects = [composing.blob(b"x" * size), composing.tree_of_files({})]
    stream = BytesIO(composing.pack_of(objects))
    read = list(PackStreamReader(hashlib.sha1, stream.read).read_objects())
    assert [(each.pack_type_num, b"".join(each.obj_chunks)) for each in read] == [
        (each.kind, each.body) for each in objects
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"tree 0",
        b"author x\n\nmessage",
        b"author Ada <a@b> 99999999999999999999 +0000\n\n",
        b"encoding no-such\nauthor \xff <> 1 +9999\n\n\xff\x00",
        b"gpgsig -----BEGIN\n author Eve <e@e> 1 +0000\n -----END\n\nm",
    ],
)
def test_odd_commits_are_shown_and_not_fatal(body: bytes) -> None:
    commit = commit_from(Oid("1" * 40), body)
    assert "\x00" not in commit.message
    assert commit.author.name != "Eve"


def test_the_commits_own_encoding_counts() -> None:
    body = b"author J\xf6rg <j@x> 5 +0100\nencoding iso-8859-1\n\nGr\xfc\xdfe\n"
    commit = commit_from(Oid("1" * 40), body)
    assert (commit.author.name, commit.message, commit.author.zone_minutes) == ("Jörg", "Grüße\n", 60)
