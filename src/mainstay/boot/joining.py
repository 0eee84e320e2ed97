"""Make a data directory that belongs to a cluster, out of a token.

Everything that can be wrong with this machine is found before the token is shown, because it works once.
After that the files are written whole, and then looked at as a start would: who cannot reach the database
from here hears it now. Doing it again with another token repairs what is missing; settings of this machine
stay as they were unless they are given anew.
"""

import json
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, Request, build_opener

from mainstay.boot.first_start import check_database, check_member, check_store
from mainstay.boot.inviting import LOCAL
from mainstay.boot.layout import Layout, make_directories
from mainstay.boot.locks import pid_lock
from mainstay.boot.settings import NodeSettings, assemble, load_for_command
from mainstay.boot.stores import Stores, opened_stores
from mainstay.boot.unredirected import NoRedirect
from mainstay.cluster import schema
from mainstay.cluster.belonging import remember_instance, remembered_instance
from mainstay.cluster.joining import Bundle, JoinToken, unseal
from mainstay.cluster.keyring import KeyFile, KeyRing, MasterKeyMissing, key_file, write_keys
from mainstay.foundation.errors import Conflict, Invalid, NotAllowed, Unavailable
from mainstay.foundation.private_files import replace_file
from mainstay.storage.identity import read_marker

JOIN_PATH: Final = "/-/join"
_HEAD: Final = (
    "# Written by `mainstay join`; another join writes it again, and keeps the part of this machine."
)
_ANSWER_BYTES_MAX = 1 << 20
_ASK_S_MAX = 30
_REFUSED = 403


class NotAnAddress(Invalid):
    """The URL is not one of a node or balancer."""


class NotLetIn(NotAllowed):
    """The cluster refuses the token."""


class ClusterUnreachable(Unavailable):
    """No node answers at the URL, or something else does."""


class OccupiedDirectory(Conflict):
    """The data directory belongs to something that must not be lost."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of it."""

    instance: str
    settings: NodeSettings
    repaired: bool
    """It belonged to this cluster before."""


def join(url: str, token: JoinToken, data: Path, local: Mapping[str, str], *, force: bool) -> Joined:
    """Make `data` a node's. Raises with one sentence; nothing is changed unless the token was taken."""
    address = join_url(url)
    assemble(data, [local])
    layout = Layout(data)
    _check_unoccupied(data, force=force)
    make_directories(layout)
    with pid_lock(layout.pid):
        bundle = unseal(token, ask(address, token))
        repaired = write_bundle(data, bundle, local, force=force)
        settings = load_for_command(data)
        look_as_a_start_would(settings)
    return Joined(bundle.instance, settings, repaired)


def join_url(url: str) -> str:
    """Where to show the token. Raises `NotAnAddress`."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # looked at when it is asked for
    except ValueError as error:
        raise NotAnAddress(f"{url!r} is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise NotAnAddress(f"{url!r} is not http://HOST:PORT or https://HOST of a node or of the balancer")
    return url.rstrip("/") + JOIN_PATH


def ask(address: str, token: JoinToken, *, site: Mapping[str, Any] | None = None) -> str:
    """Show the token and return the sealed bundle. A replica says what `site` it is.

    Certificates are not checked: the answer is sealed by the token itself, which no one in between has, and
    what is shown is worthless to them. A balancer with a private CA is no obstacle therefore.
    """
    shown = {"id": token.id, "proof": token.proof, **({} if site is None else {"site": dict(site)})}
    body = json.dumps(shown).encode()
    request = Request(address, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310 - http(s), see `join_url`
    opener = build_opener(NoRedirect(), HTTPSHandler(context=_unchecked()))
    try:
        with opener.open(request, timeout=_ASK_S_MAX) as answer:
            return str(json.loads(answer.read(_ANSWER_BYTES_MAX))["sealed"])
    except HTTPError as error:
        with error:
            raise _refusal(address, error) from error
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ClusterUnreachable(f"nobody answers at {address}: {reason}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterUnreachable(f"what answers at {address} is no node of Mainstay") from error


def look_as_a_start_would(settings: NodeSettings) -> None:
    """Raise when a start on this machine would be refused. The files are in place by now."""
    try:
        with opened_stores(settings) as stores:
            _look(stores)
    except Unavailable as error:
        raise Unavailable(
            f"{error}; this machine is let in and its files are in {settings.data}: when that is mended, type"
            f" `mainstay serve --data {settings.data}`"
        ) from error


def _look(stores: Stores) -> None:
    decision = schema.decide(schema.release_of(stores.database))
    if isinstance(decision, schema.Refuse):
        raise schema.SchemaTooNew(decision.because)
    check_member(stores)
    check_database(stores)
    if read_marker(stores.objects) is None:
        raise Unavailable(f"{stores.settings.object_store} is empty as seen from here: is its disk mounted?")
    check_store(stores)


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _refusal(address: str, error: HTTPError) -> Exception:
    said = _message_in(error.read(_ANSWER_BYTES_MAX))
    if error.code == _REFUSED and said:
        return NotLetIn(said)
    if target := error.headers.get("location"):
        return ClusterUnreachable(f"{address} leads to {target}: give that address")
    return ClusterUnreachable(f"{address} answers {error.code}{': ' + said if said else ''}")


def _message_in(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return ""


def _check_unoccupied(data: Path, *, force: bool) -> None:
    """Before the token is shown: a directory with a node of its own is not taken over by accident."""
    alone = (data / "mainstay.db").exists() or (data / "objects").exists()
    if alone and not force:
        raise OccupiedDirectory(
            f"{data} holds a node of its own, with repositories: choose another --data, or leave them behind"
            " with --force"
        )


def write_bundle(data: Path, bundle: Bundle, local: Mapping[str, str], *, force: bool) -> bool:
    """Put the files in place; say whether the directory belonged to this cluster before."""
    before = remembered_instance(data)
    if before not in (None, bundle.instance) and not force:
        raise OccupiedDirectory(
            f"{data} belongs to instance {before}, the token to {bundle.instance}: choose another --data, or"
            " leave the other behind with --force"
        )
    same = before == bundle.instance
    _write_keys(data, bundle.keyring, same=same)
    remember_instance(data, bundle.instance)
    kept = {name: text for name, text in settings_in(data).items() if name in LOCAL}
    _write_settings(data, bundle.settings, {**kept, **local})
    (data / "run" / "settings.json").unlink(missing_ok=True)  # what an earlier node here was told
    return same


def _write_keys(data: Path, keyring: KeyRing, *, same: bool) -> None:
    """Keys of another cluster are moved aside, never overwritten: its secrets would be lost with them."""
    try:
        ours = KeyFile(data).read()
    except MasterKeyMissing:
        ours = keyring
    if not same and not set(ours.ids) & set(keyring.ids):
        key_file(data).rename(key_file(data).with_name(f"master.key.{ours.newest_id}"))
    write_keys(data, keyring)


def settings_in(data: Path) -> dict[str, str]:
    """What the settings file here says so far; one that is broken is written anew."""
    try:
        content = tomllib.loads((data / "mainstay.toml").read_text())
    except (OSError, ValueError):
        return {}
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in content.items()
    }


def _write_settings(data: Path, shared: Mapping[str, str], local: Mapping[str, str]) -> None:
    lines = [
        _HEAD,
        "",
        "# The same on every node.",
        *[f"{name} = {_quoted(text)}" for name, text in shared.items() if name not in local],
        "",
        "# This machine.",
        *[f"{name} = {_quoted(text)}" for name, text in local.items()],
        "",
    ]
    _keep_what_people_wrote(data / "mainstay.toml")
    replace_file(data / "mainstay.toml", "\n".join(lines).encode(), durable=True)


def _keep_what_people_wrote(file: Path) -> None:
    """A settings file that is not ours is moved aside: it may have comments."""
    if file.exists() and not file.read_bytes().startswith(_HEAD.encode()):
        file.replace(file.with_name("mainstay.toml.before-join"))


def _quoted(text: str) -> str:
    """A basic string of TOML: JSON's but for one letter."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
