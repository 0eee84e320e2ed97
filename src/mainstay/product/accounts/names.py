"""Which names a person, a group and a project may have.

A name becomes a segment of a URL, of a Git path and of a key for people to read, so the alphabet is small:
ASCII letters, digits, `_`, `-` and `.`. Look-alikes from other alphabets cannot occur. Names differ when
they differ in lower case.
"""

import re

from mainstay.foundation.errors import Invalid

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_ENDINGS_REFUSED = (".git", ".atom", ".wiki", ".lock")
_CHARACTERS_MAX = 255
_TEXT_MAX = 2000
FULL_PATH_MAX = 1000

_RESERVED_AT_TOP = frozenset(
    [
        "-",
        ".well-known",
        "404.html",
        "422.html",
        "500.html",
        "502.html",
        "503.html",
        "abuse_reports",
        "admin",
        "api",
        "apple-touch-icon.png",
        "apple-touch-icon-precomposed.png",
        "assets",
        "autocomplete",
        "ci",
        "dashboard",
        "explore",
        "favicon.ico",
        "files",
        "groups",
        "health_check",
        "help",
        "import",
        "invites",
        "jwt",
        "login",
        "logout",
        "metrics",
        "notification_settings",
        "oauth",
        "profile",
        "projects",
        "public",
        "robots.txt",
        "s",
        "search",
        "sent_notifications",
        "sitemap",
        "sitemap.xml",
        "sitemap.xml.gz",
        "snippets",
        "static",
        "status",
        "u",
        "unsubscribes",
        "uploads",
        "users",
        "v2",
        "ghost",
    ]
)
"""First segments of our own URLs, and some that clients ask every site for."""

_RESERVED_BELOW = frozenset(
    [
        "-",
        "badges",
        "blame",
        "blob",
        "builds",
        "commits",
        "create",
        "create_dir",
        "edit",
        "environments",
        "files",
        "find_file",
        "git-receive-pack",
        "git-upload-pack",
        "gitlab-lfs",
        "info",
        "new",
        "objects",
        "preview",
        "raw",
        "refs",
        "tree",
        "update",
        "wikis",
    ]
)
"""Segments that follow a project's path in URLs of Git and of the web."""


class BadName(Invalid):
    """The name cannot be used; the message says why."""


def check_segment(segment: str, *, what: str, at_top: bool) -> str:
    """Return `segment` when it may be a path segment. `what` begins the sentence of a refusal."""
    if not segment:
        raise BadName(f"{what} is empty")
    if len(segment) > _CHARACTERS_MAX:
        raise BadName(f"{what} is longer than {_CHARACTERS_MAX} characters")
    if _SEGMENT.match(segment) is None:
        raise BadName(
            f"{what} {segment!r} may have only ASCII letters, digits, '_', '-' and '.', "
            "and may not begin with '-' or '.'"
        )
    lowered = segment.lower()
    if segment.endswith(".") or ".." in segment or lowered.endswith(_ENDINGS_REFUSED):
        raise BadName(
            f"{what} {segment!r} may not end in '.', {', '.join(map(repr, _ENDINGS_REFUSED))} "
            "or have two dots in a row"
        )
    if lowered in (_RESERVED_AT_TOP if at_top else _RESERVED_BELOW):
        raise BadName(f"{what} {segment!r} is a reserved word")
    return segment


def check_text(text: str, *, what: str, characters_max: int = _CHARACTERS_MAX) -> str:
    """Return `text` stripped, when it is one line fit to be shown: a display name, a title."""
    stripped = text.strip()
    if not stripped:
        raise BadName(f"{what} is empty")
    if len(stripped) > characters_max:
        raise BadName(f"{what} is longer than {characters_max} characters")
    if not stripped.isprintable():
        raise BadName(f"{what} has control characters or line breaks")
    return stripped


def check_description(text: str) -> str:
    """Return `text` when it may be a description: several lines, no other control characters."""
    if len(text) > _TEXT_MAX:
        raise BadName(f"the description is longer than {_TEXT_MAX} characters")
    if not all(letter.isprintable() or letter in "\r\n\t" for letter in text):
        raise BadName("the description has control characters")
    return text
