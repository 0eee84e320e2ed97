"""Epochs in the object store: `sites/epoch/N`, made once and never changed.

Sites that share a store, or copy each other's objects, learn of a promotion from it even when they do not
reach each other. Markers may have gaps: a promotion without the other store leaves its mark only in its own.
"""

import json
from typing import Final

from mainstay.cluster.epochs import Superseded
from mainstay.foundation.errors import Unavailable
from mainstay.storage.database.fence import Claim
from mainstay.storage.objects import KeyTaken, NoSuchObject, ObjectStore

PREFIX: Final = "sites/epoch/"
_MARKER_BYTES_MAX: Final = 4096
_AHEAD_MAX: Final = 1000
"""Markers that are followed one by one in one look."""


class MarkerUnreadable(Unavailable):
    """A marker is there and is not what was put there."""


def put_marker(objects: ObjectStore, claim: Claim, *, since_ms: int) -> None:
    """Take the number in this store. Raises `Superseded` when another site has it."""
    said = {"site": claim.site_id, "name": claim.name, "url": claim.url, "since_ms": since_ms}
    try:
        objects.put_bytes(key_of(claim.epoch), json.dumps(said).encode())
    except KeyTaken as taken:
        found = marker(objects, claim.epoch)
        if found is None or found.site_id != claim.site_id:
            whose = repr(found.name or found.site_id) if found else "somebody else"
            raise Superseded(f"epoch {claim.epoch}: {whose} took it in the object store") from taken


def key_of(epoch: int) -> str:
    return f"{PREFIX}{epoch}"


def marker(objects: ObjectStore, epoch: int) -> Claim | None:
    """Who has the number; None: nobody here. Raises `MarkerUnreadable`, `Unavailable`."""
    try:
        content = objects.get_bytes(key_of(epoch), length=_MARKER_BYTES_MAX)
    except NoSuchObject:
        return None
    try:
        said = json.loads(content)
        return Claim(epoch, str(said["site"]), str(said["name"]), str(said["url"]))
    except (ValueError, KeyError, TypeError) as error:
        raise MarkerUnreadable(f"object {key_of(epoch)!r} is not a marker of an epoch") from error


def following(objects: ObjectStore, epoch: int) -> Claim | None:
    """The highest of the markers that follow `epoch` without a gap; None when the next is not there.

    One request when there is nothing new: cheap enough for every second, also where requests are paid for.
    """
    newest = None
    for number in range(epoch + 1, epoch + 1 + _AHEAD_MAX):
        found = marker(objects, number)
        if found is None:
            break
        newest = found
    return newest


def highest_marker(objects: ObjectStore) -> Claim | None:
    """The highest marker, gaps or not, by a listing."""
    numbers = (stored.key.removeprefix(PREFIX) for stored in objects.list(PREFIX))
    newest = max((int(number) for number in numbers if number.isascii() and number.isdigit()), default=None)
    return None if newest is None else marker(objects, newest)
