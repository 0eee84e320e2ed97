"""`mainstay failover`: a replica becomes the primary while all is well, or by itself when it is not."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mainstay.cli.frame import data_option, json_option, opened, show
from mainstay.foundation.errors import Invalid

if TYPE_CHECKING:
    from mainstay.boot.automatic import Automatic
    from mainstay.boot.stores import Stores

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


class NotAsked(Invalid):
    """Nobody is there to say yes."""


class UnclearWish(Invalid):
    """The options together mean nothing."""


@click.command
@click.option("--to", "name", metavar="NAME", help="The replica, as `replica status` calls it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--automatic/--manual",
    "wish",
    default=None,
    help="From now on the synchronous replica takes over by itself, if a witness agrees; or not any more.",
)
@click.option("--witness", "url", metavar="URL", help="https://HOST:PORT, or s3://BUCKET/PREFIX.")
@click.option("--token-file", type=_FILE, help="The file `token` in the directory of the witness.")
@click.option("--authority", type=_FILE, help="PEM: who signed its certificate.  [default: the system's]")
@click.option("--force", is_flag=True, help="With --manual: although the witness is gone for ever.")
@data_option
@json_option
def command(
    *,
    name: str | None,
    yes: bool,
    wish: bool | None,
    url: str | None,
    token_file: Path | None,
    authority: Path | None,
    force: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Hand over to a replica, on the primary. Nothing is lost; writes wait for seconds.

    When the replica does not have everything in time, all is as before. Afterwards this site is a replica.
    Without --to: show whether sites fail over by themselves, or change that.
    """
    if name is not None and (wish is not None or url is not None):
        raise UnclearWish("--to hands over now; --automatic is for later: give one of them")
    with opened(data, orm=False) as stores:
        if name is not None:
            _hand_over(stores, name, yes=yes, as_json=as_json)
            return
        from mainstay.boot import automatic  # noqa: PLC0415 - `--help` does not pay for a database

        if wish is True or url is not None:
            found = automatic.whereabouts_in(url, token_file, authority) if url else None
            automatic.switch_on(stores, found)
        elif wish is False:
            automatic.switch_off(stores, is_forced=force)
        found_now = automatic.look(stores)
    show(asdict(found_now), as_json=as_json, text=_text_of(found_now))


def _hand_over(stores: "Stores", name: str, *, yes: bool, as_json: bool) -> None:
    from mainstay.boot.failover import hand_over, warnings  # noqa: PLC0415 - `--help` does not pay for it

    for warning in warnings(stores.settings):
        click.echo(f"warning: {warning}", err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise NotAsked("nobody is there to say yes: give --yes")
        click.confirm(f"Let {name} be the primary?", abort=True, err=True)
    done = hand_over(stores, name, tell=lambda line: click.echo(line, err=True))
    text = f"{done.to} is the primary, with epoch {done.epoch}; writes waited for {done.paused_s:.1f} s."
    show(asdict(done), as_json=as_json, text=text)


def _text_of(found: "Automatic") -> str:
    if not found.is_on:
        return "automatic failover: off; a person promotes (`mainstay promote`)"
    lines = [f"automatic failover: on, witness {found.witness}"]
    if found.age_s is not None:
        lines.append(f"primary: {found.primary}, renewed {found.age_s} s ago")
        lines.append(f"may take over: {found.standby or 'nobody, because no replica has everything (yet)'}")
    return "\n".join([*lines, *([found.trouble] if found.trouble else [])])
