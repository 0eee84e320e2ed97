"""The command line: one module per command, `--json` and an honest exit code everywhere.

A command is a module here that exposes `command`. Modules are imported only when their command is asked
for, so that `mainstay --help` and shell completion stay quick.

Exit codes are in `boot.exits`; 1 is for a check that found something.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence

import click

from mainstay import __version__
from mainstay.boot.exits import EXIT_BUG, EXIT_INTERRUPTED, EXIT_PIPE_CLOSED, exit_code_of
from mainstay.foundation.errors import MainstayError

COMMANDS: Mapping[str, str] = {
    "check": "Look whether this node is set up well.",
    "cluster": "Run a whole cluster here, to break it.",
    "completion": "Print the shell's completion script.",
    "config": "Look at the settings.",
    "db": "Move the database to PostgreSQL.",
    "debug": "Tools for those who break things on purpose.",
    "dns": "Names that follow the primary.",
    "doctor": "Look for what is wrong, and for what is single.",
    "failover": "Hand over to a replica, as planned.",
    "fsck": "Verify packs, manifests and the log of refs.",
    "job": "Look at the queue of jobs, and try again what failed.",
    "join": "Make this machine a node of a cluster.",
    "lb": "Configure a load balancer before the nodes.",
    "maintenance": "Close the instance for a while.",
    "node": "Let machines in, and look after them.",
    "project": "List and manage projects.",
    "promote": "Make this replica the primary.",
    "rebuild-db": "Rebuild the database from the object store.",
    "replica": "Let replicas in, and look after them.",
    "repo": "Look at and mend a repository.",
    "secrets": "Look at what all nodes share, and replace it.",
    "serve": "Run a node.",
    "ssh": "Helpers for sites that keep OpenSSH.",
    "status": "Show all nodes and what is wrong.",
    "token": "Create and revoke tokens.",
    "user": "List and manage users.",
    "witness": "Run a third vote for two sites.",
}
"""Name and short help; `a-b` lives in the module `a_b`."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"mainstay.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mainstay")
def group() -> None:
    """Mainstay, a self-hosted Git platform that stays up."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. The only place that turns an error into a sentence and a code."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        result = group.main(arguments, prog_name="mainstay", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        return EXIT_PIPE_CLOSED
    except MainstayError as error:
        return _say(str(error), exit_code_of(error))
    except Exception as bug:  # noqa: BLE001 - the outermost door; a bug is logged once, here, with its trace
        return _report(bug)
    return result if isinstance(result, int) else 0


def _say(sentence: str, code: int) -> int:
    click.echo(f"mainstay: {sentence}", err=True)
    return code


def _report(bug: Exception) -> int:
    from mainstay.foundation import logs  # noqa: PLC0415 - only a failing command pays for it

    logs.configure(process="cli")
    logs.get_logger().error("cli.crashed", exc_info=bug)
    return _say(f"bug: {type(bug).__name__}: {bug}; the trace is above, please report it", EXIT_BUG)
