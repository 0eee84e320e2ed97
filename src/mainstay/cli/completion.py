"""`mainstay completion`: teach the shell our commands."""

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


_HELP = """Print the completion script of a shell.

\b
bash: eval "$(mainstay completion bash)"        in ~/.bashrc
zsh:  eval "$(mainstay completion zsh)"         in ~/.zshrc
fish: mainstay completion fish | source         in ~/.config/fish/config.fish
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    script = get_completion_class(shell)
    assert script is not None, "click knows the shells of the choice"
    group = ctx.find_root().command
    click.echo(script(group, {}, "mainstay", "_MAINSTAY_COMPLETE").source())
