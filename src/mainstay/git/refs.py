"""Which names a ref may have: the rules of `git check-ref-format`, and those of a push.

A name like `refs/heads/--output=x` is legal in Git and here; what keeps it harmless is that names reach
git processes only in full or through standard input (`git.native.commands`).

Rules: https://git-scm.com/docs/git-check-ref-format
"""

import re

_FORBIDDEN = re.compile(rb"[\x00-\x20\x7f~^:?*\[\\]")

NAME_BYTES_MAX = 4096
COMPONENT_BYTES_MAX = 250
"""File systems take 255 bytes, and git adds `.lock`: a longer name could be pushed but not fetched."""


def check_ref_name(name: bytes) -> str | None:
    """Return why `name` cannot be the full name of a ref, or None when it can."""
    if b"/" not in name:
        return "it has only one component"
    return _why_not_form(name)


def check_pushed_name(name: bytes) -> str | None:
    """Return why a push may not create a ref with this name, or None when it may.

    As in git, it needs a kind and a name below `refs/`: not `refs/x`.
    """
    if not name.startswith(b"refs/"):
        return "it does not start with 'refs/'"
    if len(name) > NAME_BYTES_MAX:
        return f"it is longer than {NAME_BYTES_MAX} bytes"
    if any(len(component) > COMPONENT_BYTES_MAX for component in name.split(b"/")):
        return f"a component is longer than {COMPONENT_BYTES_MAX} bytes"
    return check_ref_name(name.removeprefix(b"refs/"))


def _why_not_form(name: bytes) -> str | None:
    found = _FORBIDDEN.search(name)
    if found is not None:
        return f"it holds the byte {found[0]!r}"[:-1].replace("b'", "'", 1) + "'"
    if b".." in name:
        return "it holds '..'"
    if b"@{" in name:
        return "it holds '@{'"
    if name.endswith(b"."):
        return "it ends with '.'"
    return _why_not_components(name.split(b"/"))


def _why_not_components(components: list[bytes]) -> str | None:
    if b"" in components:
        return "it has an empty component"
    if any(component.startswith(b".") for component in components):
        return "a component starts with '.'"
    if any(component.endswith(b".lock") for component in components):
        return "a component ends with '.lock'"
    return None
