"""Where a PostgreSQL server of ours answers on its machine. Known without loading a driver."""

from pathlib import Path
from typing import Final
from urllib.parse import quote

OWNER: Final = "mainstay"
"""The role that owns the database of the same name."""
SOCKET_PORT: Final = 5432
"""The name of the socket, wherever the TLS port is: the URL of a server never changes."""


def socket_url(sockets: Path, database: str = OWNER) -> str:
    """The URL of the server whose socket is in this directory."""
    return f"postgresql://{OWNER}@/{quote(database)}?host={quote(str(sockets), safe='')}&port={SOCKET_PORT}"
