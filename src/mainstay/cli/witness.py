"""`mainstay witness`: a third vote, for two machines that are to fail over by themselves."""

import ssl
from pathlib import Path
from typing import Any

import click

from mainstay.cli.frame import json_option, quiet, show
from mainstay.foundation.errors import Invalid

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_PORT_MAX = 65535


class BadAddress(Invalid):
    """The text is not HOST:PORT."""


@click.group
def command() -> None:
    """Run and look at a witness, the third vote of two sites."""


@command.command("serve")
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where sites reach it.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="A directory of its own: the record, and the token that sites need.",
)
@click.option("--certificate", type=_FILE, help="PEM. Needed on any address but this machine's own.")
@click.option("--key", type=_FILE, help="PEM.")
@click.option("--clients", type=_FILE, help="PEM: only certificates that it signed may ask.")
def serve(listen: str, data: Path, certificate: Path | None, key: Path | None, clients: Path | None) -> None:
    """Run a witness. It needs no database and no other part of Mainstay."""
    from mainstay.boot.witness import WitnessSettings  # noqa: PLC0415 - `--help` does not pay for it
    from mainstay.boot.witness import serve as serve_witness  # noqa: PLC0415 - same
    from mainstay.foundation import logs  # noqa: PLC0415 - same

    logs.configure(process="witness")
    host, port = _address(listen)
    serve_witness(
        WitnessSettings(host=host, port=port, data=data, certificate=certificate, key=key, clients=clients)
    )


@command.command("status")
@click.option(
    "--url", required=True, help="https://HOST:PORT, or s3://BUCKET/PREFIX for a lease in a bucket."
)
@click.option("--token-file", type=_FILE, help="The file `token` in the directory of the witness.")
@click.option("--authority", type=_FILE, help="PEM: who signed its certificate.  [default: the system's]")
@json_option
def status(url: str, token_file: Path | None, authority: Path | None, as_json: bool) -> None:
    """Show whom the witness names, and since when."""
    quiet()
    seen = _witness(url, token_file, authority).look()
    if seen is None:
        show({"enrolled": False}, as_json=as_json, text="nobody has enrolled yet")
        return
    from mainstay.cluster.witness import record_said  # noqa: PLC0415 - `--help` does not pay for it

    record = seen.record
    answer = {"enrolled": True, **record_said(record), "age_s": round(seen.age_s, 1)}
    standby = record.standby or "no replica: none has everything"
    text = (
        f"epoch {record.epoch}: {record.name or record.primary}, unchanged for {seen.age_s:.1f} s of"
        f" {record.term_ms / 1000:.0f} s\nmay take over: {standby}"
    )
    show(answer, as_json=as_json, text=text)


def _witness(url: str, token_file: Path | None, authority: Path | None) -> Any:
    from mainstay.cluster.witness.bucket import KEY, BucketWitness  # noqa: PLC0415 - `--help` does not pay
    from mainstay.cluster.witness.process import ProcessWitness  # noqa: PLC0415 - same
    from mainstay.foundation.logs import Secret  # noqa: PLC0415 - same
    from mainstay.storage.objects.register import open_register  # noqa: PLC0415 - same

    if not url.startswith(("http:", "https:")):
        return BucketWitness(open_register(url, KEY))
    token = Secret(token_file.read_text("ascii").strip() if token_file else "")
    tls = ssl.create_default_context(cafile=str(authority)) if authority else None
    return ProcessWitness(url, token=token, tls=tls)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= _PORT_MAX:
        raise BadAddress(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
