"""The proxy that other tests break networks with does what they think it does."""

import socket
import threading
from collections.abc import Iterator

import pytest

from support.tcp_proxy import TcpProxy


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    """In front of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_echo_all, args=(listener,), daemon=True).start()
        with TcpProxy(*listener.getsockname()) as proxy:
            yield proxy


def _echo_all(listener: socket.socket) -> None:
    while True:
        try:
            line, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(line,), daemon=True).start()


def _echo(line: socket.socket) -> None:
    with line:
        try:
            while chunk := line.recv(65536):
                line.sendall(chunk)
        except OSError:
            return


def connected(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def all_of(line: socket.socket) -> bytes:
    said = b""
    while chunk := line.recv(65536):
        said += chunk
    return said


def test_bytes_and_their_end_pass_in_both_directions(proxy: TcpProxy) -> None:
    sent = bytes(range(256)) * 20_000
    with connected(proxy) as line:
        writing = threading.Thread(target=lambda: (line.sendall(sent), line.shutdown(socket.SHUT_WR)))
        writing.start()
        assert all_of(line) == sent
        writing.join()


def test_a_cut_resets_what_there_is_and_refuses_what_comes(proxy: TcpProxy) -> None:
    with connected(proxy) as line:
        line.sendall(b"a")
        assert line.recv(1) == b"a"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            line.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    proxy.heal()
    with connected(proxy) as line:
        line.sendall(b"b")
        assert line.recv(1) == b"b"


def test_a_stall_takes_everything_and_answers_nothing(proxy: TcpProxy) -> None:
    proxy.stall()
    with connected(proxy) as line:
        line.sendall(b"a")
        line.settimeout(0.5)
        with pytest.raises(TimeoutError):
            line.recv(1)
        line.settimeout(10)
        proxy.heal()
        assert line.recv(1) == b"a"


def test_a_reset_leaves_the_door_open(proxy: TcpProxy) -> None:
    with connected(proxy) as line:
        line.sendall(b"a")
        assert line.recv(1) == b"a"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            line.recv(1)
    with connected(proxy) as line:
        line.sendall(b"b")
        assert line.recv(1) == b"b"
    assert proxy.connections == 2
