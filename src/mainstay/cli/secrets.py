"""`mainstay secrets`: what all nodes share, and how to replace it while they run."""

from pathlib import Path

import click

from mainstay.cli.frame import data_option, json_option, opened, show, table
from mainstay.foundation.clock import SYSTEM, iso8601
from mainstay.foundation.errors import Conflict


class NodesLive(Conflict):
    """What a command would take away is in use."""


@click.group
def command() -> None:
    """Look at the shared secrets, and replace them."""


@command.command("list")
@data_option
@json_option
def list_secrets(data: Path | None, as_json: bool) -> None:
    """Name the shared secrets, without their values."""
    with opened(data, orm=False) as stores:
        from mainstay.boot.membership import secrets_of  # noqa: PLC0415 - `--help` does not pay for it

        facts = secrets_of(stores).names()
    rows = [(fact.name, iso8601(fact.created_ms), fact.key_id) for fact in facts]
    answer = [{"name": name, "created_at": at, "master_key": key_id} for name, at, key_id in rows]
    show(answer, as_json=as_json, text=table(["name", "created_at", "master_key"], rows))


@command.group("rotate")
def rotate() -> None:
    """Replace a secret while all nodes run."""


@rotate.command("rpc")
@data_option
@json_option
def rotate_rpc(data: Path | None, as_json: bool) -> None:
    """Replace the token by which nodes know each other; the one before stays valid until the next time."""
    with opened(data, orm=False) as stores:
        from mainstay.boot.membership import secrets_of  # noqa: PLC0415 - `--help` does not pay for it
        from mainstay.cluster import rpc_tokens  # noqa: PLC0415 - same

        rpc_tokens.rotate(secrets_of(stores), now_ms=SYSTEM.now_ms())
    show({"rotated": "rpc"}, as_json=as_json, text="Nodes use the new token within a minute.")


@rotate.command("master")
@click.option(
    "--finish", is_flag=True, help="End the validity of older keys, once every node has the new one."
)
@data_option
@json_option
def rotate_master(*, finish: bool, data: Path | None, as_json: bool) -> None:
    """Replace the master key: every secret is wrapped anew, and the other nodes pick the new key up.

    Who has an old key and a copy of the database can still find the new one until `--finish`.
    """
    with opened(data, orm=False) as stores:
        from mainstay.boot.membership import secrets_of  # noqa: PLC0415 - `--help` does not pay for it
        from mainstay.cluster import rotation  # noqa: PLC0415 - same
        from mainstay.cluster.keyring import KeyFile, key_file  # noqa: PLC0415 - same

        secrets, keys = secrets_of(stores), KeyFile(stores.settings.data)
        if finish:
            ended = rotation.forget_trail(stores.database, secrets)
            show({"ended": ended}, as_json=as_json, text=f"{ended} older key(s) lead nowhere any more.")
            return
        done = rotation.rotate_master(stores.database, secrets, keys, now_ms=SYSTEM.now_ms())
        file = key_file(stores.settings.data)
    answer = {"before": done.before, "after": done.after, "wrapped": done.wrapped}
    text = (
        f"Master key {done.after} wraps {done.wrapped} secrets. Keep a copy of {file} with your backups.\n"
        "When every node has been seen with it: mainstay secrets rotate master --finish"
    )
    show(answer, as_json=as_json, text=text)


@rotate.command("object-store")
@data_option
@json_option
def rotate_object_store(data: Path | None, as_json: bool) -> None:
    """Keep the object store's credentials of this environment for all nodes, which use them when started."""
    with opened(data, orm=False) as stores:
        from mainstay.boot import credentials  # noqa: PLC0415 - `--help` does not pay for it
        from mainstay.boot.membership import secrets_of  # noqa: PLC0415 - same

        names = credentials.replace(stores.settings, secrets_of(stores))
    show({"kept": names}, as_json=as_json, text=f"Kept for all nodes: {', '.join(names)}.")


@command.command("reset")
@click.option("--forget-all", is_flag=True, required=True, help="Say that you know what is lost.")
@data_option
@json_option
def reset(*, forget_all: bool, data: Path | None, as_json: bool) -> None:  # noqa: ARG001 - asked for, not read
    """Start over with a new master key, when the old one is lost for good. Stop all nodes first.

    SSH host keys change, so that every client is warned; other nodes must join again; a node that had the
    object store's credentials from the cluster needs them in its environment. Repositories, users and
    tokens of people are not touched.
    """
    with opened(data, orm=False) as stores:
        from mainstay.boot.layout import Layout  # noqa: PLC0415 - `--help` does not pay for it
        from mainstay.boot.locks import pid_lock  # noqa: PLC0415 - same
        from mainstay.cluster import nodes, rotation  # noqa: PLC0415 - same
        from mainstay.cluster.keyring import KeyFile  # noqa: PLC0415 - same

        with pid_lock(Layout(stores.settings.data).pid):
            if live := nodes.live_nodes(stores.database):
                names = ", ".join(node.name for node in live)
                raise NodesLive(f"these nodes still run, and would lose what they share: {names}; stop them")
            keys = KeyFile(stores.settings.data)
            forgotten = rotation.start_over(stores.database, keys, now_ms=SYSTEM.now_ms())
    show(
        {"forgotten": forgotten}, as_json=as_json, text=f"{forgotten} secrets are forgotten; start the node."
    )
