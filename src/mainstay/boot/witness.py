"""The process of a witness: its directory, its token, its server. It needs nothing else of Mainstay.

Away from this machine it speaks TLS only, and where it is told which authority signs the sites' certificates,
it speaks with nobody else.
"""

import secrets
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn

from mainstay.boot.http_protocol import BoundedHttpProtocol, server_options
from mainstay.cluster.witness.shelf import ShelfWitness, only_user
from mainstay.doors.witness.app import WitnessDoor
from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import Secret, get_logger
from mainstay.foundation.private_files import replace_file

log = get_logger()

TOKEN_FILE: Final = "token"  # noqa: S105 - the name of a file
_TOKEN_BYTES: Final = 32
_CONNECTIONS_MAX: Final = 128
_KEEP_ALIVE_S: Final = 10
_DRAIN_S: Final = 2
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}


class BadWitness(Invalid):
    """A witness cannot be run like this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessSettings:
    """What the command line said."""

    host: str
    port: int
    data: Path
    certificate: Path | None = None
    key: Path | None = None
    clients: Path | None = None
    """Who signs the certificates of those that may ask."""


def serve(settings: WitnessSettings) -> None:
    """Serve until SIGTERM. Raises `BadWitness`, `WitnessAway`, `InUse`."""
    tls = _tls(settings)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with only_user(settings.data):
        door = WitnessDoor(ShelfWitness(settings.data), ensure_token(settings.data))
        config = uvicorn.Config(
            door,
            timeout_graceful_shutdown=_DRAIN_S,
            **{
                **server_options(),
                "http": BoundedHttpProtocol,
                "limit_concurrency": _CONNECTIONS_MAX,
                "timeout_keep_alive": _KEEP_ALIVE_S,
            },
        )
        if tls is not None:
            config.ssl_context_factory = lambda _config, _default: tls
        with _listening(settings) as listener:
            log.info("witness.started", host=settings.host, port=settings.port, tls=tls is not None)
            uvicorn.Server(config).run(sockets=[listener])


def ensure_token(data: Path) -> Secret:
    """What sites show; made at the first start, for the owner's eyes."""
    file = data / TOKEN_FILE
    try:
        return Secret(file.read_text("ascii").strip())
    except FileNotFoundError:
        token = f"mswt-{secrets.token_urlsafe(_TOKEN_BYTES)}"
        replace_file(file, token.encode() + b"\n", durable=True)
        return Secret(token)


def _listening(settings: WitnessSettings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise BadWitness(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error


def _tls(settings: WitnessSettings) -> ssl.SSLContext | None:
    if settings.certificate is None or settings.key is None:
        if settings.clients is not None:
            raise BadWitness("--clients needs --certificate and --key")
        if settings.host not in _LOOPBACK:
            raise BadWitness(
                f"a witness on {settings.host} is reached by others: give it --certificate and --key"
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.clients is not None:
            context.load_verify_locations(settings.clients)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise BadWitness(f"the certificate of the witness: {error}") from error
    return context
