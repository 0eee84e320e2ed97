"""`mainstay replica`: further sites that have everything this one has."""

import getpass
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from mainstay.cli.durations import milliseconds
from mainstay.cli.frame import data_option, json_option, opened, quiet, show, table
from mainstay.cli.invitation import show_invitation
from mainstay.foundation import failpoints
from mainstay.foundation.clock import iso8601
from mainstay.foundation.settings import from_environment

if TYPE_CHECKING:
    from mainstay.boot.replica_look import Look
    from mainstay.ops.sites.lags import Report

_LOCAL: Final[Mapping[str, str]] = {
    "http": "Where this node listens for HTTP, HOST:PORT.",
    "ssh": "Where it listens for SSH, HOST:PORT.",
    "sites": "Where other sites will reach this one, HOST:PORT: needed to be promoted one day.",
    "database_listen": "Where they will reach its database.  [default: the port after --sites]",
    "node_address": "By which name or address they reach this machine.",
    "object_store": "Where its objects are to be, when not in the data directory.",
}


def _local_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, said in reversed(list(_LOCAL.items())):
        command = click.option(f"--{name.replace('_', '-')}", name, help=said)(command)
    return command


@click.group
def command() -> None:
    """Let replicas in, and look after them."""


@command.command("token")
@click.option("--ttl", default="1h", show_default=True, help="How long it works, such as 30m, 1h, 2d.")
@data_option
@json_option
def token(ttl: str, data: Path | None, as_json: bool) -> None:
    """Print a token that lets one replica in, once. It is not kept anywhere."""
    ttl_ms = milliseconds(ttl)
    with opened(data, orm=False) as stores:
        from mainstay.boot.sites import new_replica_token, sites_address  # noqa: PLC0415 - `--help` is quick

        made = new_replica_token(stores, by=getpass.getuser(), ttl_ms=ttl_ms)
        url = f"https://{sites_address(stores.settings)}"
    show_invitation(made, url=url, command="mainstay replica add", as_json=as_json)


@command.command("add")
@click.argument("url")
@click.option(
    "--token", required=True, envvar="MAINSTAY_REPLICA_TOKEN", help="From `mainstay replica token`."
)
@click.option(
    "--mode",
    type=click.Choice(["sync", "async"]),
    default="async",
    show_default=True,
    help="sync: a push waits until this site has it, so none is lost with the primary.",
)
@click.option("--delay", help="Stay so far behind on purpose, such as 1h: to go back before a mistake.")
@click.option(
    "--cache", "patterns", multiple=True, metavar="PATTERN", help="Only a cache: what matches is kept."
)
@click.option("--name", default="", help="What people call this site.  [default: the name of the host]")
@data_option
@_local_options
@click.option("--check", "only_check", is_flag=True, help="Only look whether it would work; keep the token.")
@json_option
def add(
    *,
    url: str,
    token: str,
    mode: Literal["sync", "async"],
    delay: str | None,
    patterns: tuple[str, ...],
    name: str,
    data: Path | None,
    only_check: bool,
    as_json: bool,
    **local: str | None,
) -> None:
    """Make this machine a replica of the site at URL, in one run. Again: repair what is missing.

    Looks first for everything that is in the way, without using the token up. Then copies the database and
    every object. Killed in the middle, the same command goes on.
    """
    quiet()
    failpoints.arm(from_environment("FAILPOINTS") or "")
    from mainstay.boot import replica  # noqa: PLC0415 - `--help` does not pay for a database driver
    from mainstay.cluster.joining import parse_token  # noqa: PLC0415 - same

    where = (data or Path("data")).absolute()
    given = {setting: text for setting, text in local.items() if text is not None}
    shown = parse_token(token, "replica")
    if only_check:
        _show_look(replica.examine(url, shown, where, given), as_json=as_json)
        return
    wish = replica.Wish(
        name=name,
        kind="cache" if patterns else "replica",
        mode=mode,
        delay_s=milliseconds(delay) // 1000 if delay else 0,
        patterns=patterns,
    )
    added = replica.add(url, shown, where, given, wish, tell=lambda line: click.echo(line, err=True))
    answer = {**asdict(added), "data": str(where)}
    what = "was repaired" if added.is_repair else f"is a replica of {added.primary} now"
    text = (
        f"This machine {what}, as {added.name} (in {added.took_s:.0f} s).\n"
        f"Start it: mainstay serve --data {where}"
    )
    show(answer, as_json=as_json, text=text)


def _show_look(found: "Look", *, as_json: bool) -> None:
    from mainstay.ops.sites import preflight  # noqa: PLC0415 - `--help` does not pay for it

    answer = preflight.as_answer(found.machine, found.primary)
    in_the_way = preflight.problems(found.machine, found.primary)
    guess = preflight.estimate(found.machine, found.primary).text()
    lines = [f"- {problem.what}: {problem.do}" for problem in in_the_way]
    head = "nothing is in the way" if not in_the_way else "in the way:"
    show(answer, as_json=as_json, text="\n".join([head, *lines, f"the copy: {guess}"]))
    if in_the_way:
        raise click.exceptions.Exit(1)


@command.command("status")
@click.option("-v", "--verbose", is_flag=True, help="A line for each stream.")
@data_option
@json_option
def status(verbose: bool, data: Path | None, as_json: bool) -> None:
    """Show how far replicas are: on the primary all of them, on a replica itself.

    Exit code 0 is well, 1 a warning, 2 critical; the first line is one that Nagios reads.
    """
    with opened(data, orm=False) as stores:
        from mainstay.boot.replica_status import overview  # noqa: PLC0415 - `--help` does not pay for it

        found = overview(stores)
    lines = [found.headline, *(_lines_of(found.reports) if verbose else ())]
    show(found.answer(), as_json=as_json, text="\n".join(lines))
    if found.level:
        raise click.exceptions.Exit(int(found.level))


def _lines_of(reports: "Sequence[Report]") -> list[str]:
    from mainstay.ops.sites import lags  # noqa: PLC0415 - `--help` does not pay for it

    return [
        line
        for report in reports
        for line in (
            "",
            f"{report.site}: {report.mode}, {report.state}; {lags.judge(report).because}",
            table(["STREAM", "SECONDS", "ITEMS", "BYTES"], lags.rows(report)),
        )
    ]


@command.command("pause")
@click.argument("name", required=False)
@data_option
@json_option
def pause(name: str | None, data: Path | None, as_json: bool) -> None:
    """Let a replica rest: on the primary by NAME, on a replica itself.

    Objects do not come over and pushes do not wait for it; its database goes on.
    """
    _change(name, "paused", data, as_json=as_json)


@command.command("resume")
@click.argument("name", required=False)
@data_option
@json_option
def resume(name: str | None, data: Path | None, as_json: bool) -> None:
    """Let it go on."""
    _change(name, "active", data, as_json=as_json)


def _change(
    name: str | None, state: Literal["active", "paused"], data: Path | None, *, as_json: bool
) -> None:
    quiet()
    if name is None:
        _change_here(state, data)
    elif state == "paused":
        from mainstay.boot.replicating import rest  # noqa: PLC0415 - `--help` does not pay for a database
        from mainstay.boot.settings import load_for_command  # noqa: PLC0415 - same

        rest(load_for_command(data), name)
    else:
        with opened(data, orm=False) as stores:
            from mainstay.cluster.sites import registry  # noqa: PLC0415 - `--help` does not pay for it

            mode = registry.site_by(stores.database, name).mode
            registry.change(stores.database, name, state="joining" if mode == "sync" else "active")
    who = name or "this replica"
    show({"site": name or "", "state": state}, as_json=as_json, text=f"{who} is {state}")


def _change_here(state: Literal["active", "paused"], data: Path | None) -> None:
    from mainstay.boot.replica import pull_directory  # noqa: PLC0415 - `--help` does not pay for a database
    from mainstay.boot.settings import load_for_command  # noqa: PLC0415 - same
    from mainstay.cluster.sites import puller_state  # noqa: PLC0415 - same

    directory = pull_directory(load_for_command(data).data)
    if not directory.is_dir():
        raise click.UsageError("name the replica, or run this on a replica")
    (puller_state.pause if state == "paused" else puller_state.resume)(directory)


@command.command("remove")
@click.argument("name")
@data_option
@json_option
def remove(name: str, data: Path | None, as_json: bool) -> None:
    """Take a replica off the list: its certificate is revoked, and nothing is kept for it any more."""
    quiet()
    from mainstay.boot.replicating import rest, shut_out  # noqa: PLC0415 - `--help` does not pay for it
    from mainstay.boot.settings import load_for_command  # noqa: PLC0415 - same
    from mainstay.cluster.sites import registry  # noqa: PLC0415 - same

    rest(load_for_command(data), name)
    with opened(data, orm=False) as stores:
        site = registry.remove(stores.database, name)
        shut_out(stores.settings, site.id)
    show({"site": site.name, "state": "removed"}, as_json=as_json, text=f"{site.name} is removed")


@command.command("rejoin")
@data_option
@json_option
def rejoin(data: Path | None, as_json: bool) -> None:
    """Make a replica of this site, which was the primary and was superseded. The node may run.

    What only this site had is kept and listed; the database is rewound, without a full copy.
    """
    with opened(data, orm=False) as stores:
        from mainstay.boot.rejoin import rejoin as rejoined  # noqa: PLC0415 - `--help` does not pay for it

        done = rejoined(stores)
    lines = [f"This site is a replica of {done.primary} now."]
    for each in done.diverged:
        what = f"{each.project}, version {each.version} ({each.kind}) by {each.actor}, {iso8601(each.at_ms)}"
        lines.append(f"only here: {what}: {', '.join(each.refs) or 'no ref'}")
    if done.kept_in:
        lines.append(f"The records of these are in {done.kept_in}, their packs in the object store.")
    show(asdict(done), as_json=as_json, text="\n".join(lines))


@command.command("why")
@click.argument("project", metavar="GROUP/PROJECT")
@data_option
@json_option
def why(project: str, data: Path | None, as_json: bool) -> None:
    """Say what is here of a project, and what is not."""
    with opened(data, orm=False) as stores:
        from mainstay.boot.replica_status import why as asked  # noqa: PLC0415 - `--help` does not pay for it

        answer = asked(stores, project)
    lines = [
        f"{project}: version {answer['version']}, {answer['packs']} packs, {answer['write_state']}",
        *[f"not here: {key}" for key in answer["missing"]],
    ]
    if answer["journal_is_ahead"]:
        lines.append("the journal has a further push, whose row in the database has not come yet")
    if len(lines) == 1:
        lines.append("everything that its manifest names is here")
    show(answer, as_json=as_json, text="\n".join(lines))
    if answer["missing"]:
        raise click.exceptions.Exit(1)
