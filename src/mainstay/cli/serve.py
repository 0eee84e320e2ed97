"""`mainstay serve`: run a node."""

from pathlib import Path

import click

from mainstay.boot.addresses import http_url, ssh_clone_url
from mainstay.boot.layout import Layout
from mainstay.boot.settings import NodeSettings, load
from mainstay.boot.supervisor import serve
from mainstay.foundation import logs


@click.command
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings as TOML.")
@click.option("--data", metavar="DIR", help="Where everything is kept.  [default: ./data]")
@click.option("--http", metavar="HOST:PORT", help="Where to listen for HTTP.  [default: 127.0.0.1:8080]")
@click.option("--ssh", metavar="HOST:PORT", help="Where to listen for SSH.  [default: 127.0.0.1:2222]")
@click.option(
    "--database-url", metavar="URL", help="sqlite:///PATH, postgresql://…, managed.  [default: in DATA]"
)
@click.option("--object-store", metavar="URL", help="A directory, s3://BUCKET/…, …  [default: in DATA]")
@click.option("--redis-url", metavar="URL", help="Soft state, may be lost at any time.  [default: none]")
@click.option("--https", metavar="HOST:PORT", help="Where to end TLS here, too.  [default: nowhere]")
@click.option("--tls-certificate", metavar="FILE", help="PEM, with its chain; for --https.")
@click.option("--tls-key", metavar="FILE", help="PEM, without a passphrase; for --https.")
@click.option("--health", metavar="HOST:PORT", help="A port for health and metrics only.  [default: none]")
@click.option("--roles", metavar="LIST", help="What this node does.  [default: web,git,ssh,worker]")
@click.option("--rpc", metavar="HOST:PORT", help="Where to serve Git to other nodes.  [default: nowhere]")
@click.option("--sites", metavar="HOST:PORT", help="Where replicas reach this node.  [default: nowhere]")
@click.option("--external-url", metavar="URL", help="What people type, when it is not --http.")
def command(config: Path | None, **flags: str | None) -> None:
    """Run a node until Ctrl-C or SIGTERM, which finish what is under way first.

    Each option may also be a variable such as MAINSTAY_DATABASE_URL, or a line of the settings file.
    """
    settings = load(flags, config=config)
    logs.configure(process="serve", log_format=settings.log_format, level=settings.log_level)
    serve(settings, announce=_announce)


def _announce(settings: NodeSettings) -> None:
    """Say where the node is and what to type next."""
    url = http_url(settings)
    password = Layout(settings.data).initial_root_password
    lines = ["", f"  Mainstay is ready on {url}", f"  SSH: {ssh_clone_url(settings, 'root/PROJECT')}", ""]
    if password.exists():
        lines += [f"  User root, password in {password}", ""]
    scheme, _, rest = url.partition("://")
    lines += [
        "  Push a repository of yours; the project is made by the push:",
        f"    git remote add mainstay {scheme}://root@{rest}/root/PROJECT.git",
        "    git push mainstay --all",
        "",
        "  Ctrl-C stops it, after finishing what is under way.",
        "",
    ]
    click.echo("\n".join(lines))
