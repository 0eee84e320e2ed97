"""A machine that is to become a replica says on which of its addresses somebody listens already."""

import socket
from pathlib import Path

from mainstay.boot.replica_look import ports_taken
from mainstay.boot.settings import assemble


def test_a_port_that_is_taken_is_named_by_its_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = assemble(tmp_path, [{"http": "127.0.0.1:0", "ssh": "127.0.0.1:0", "health": address}])
        found = ports_taken(settings)
    assert list(found) == ["health"]
    assert address in found["health"]
