"""Host keys: made once, the same for every node, never silently replaced."""

import asyncssh
import pytest

from mainstay.doors.ssh.host_keys import UnusableHostKey, host_keys_from, public_lines


class Store(dict[str, str]):
    """In memory; `rival` is what another node puts there between our look and our write."""

    def __init__(self, content: dict[str, str] | None = None) -> None:
        super().__init__(content or {})
        self.rival: dict[str, str] = {}

    def put_if_absent(self, name: str, value: str) -> str:
        return self.setdefault(name, self.rival.get(name, value))


def test_keys_are_made_once_and_found_again() -> None:
    store = Store()
    first = public_lines(host_keys_from(store))
    assert [line.split()[0] for line in first] == ["ssh-ed25519", "ssh-rsa"]
    assert sorted(store) == ["ssh_host_key/ssh-ed25519", "ssh_host_key/ssh-rsa"]
    assert public_lines(host_keys_from(store)) == first


def test_of_two_nodes_that_start_at_once_both_take_the_first_ones_key() -> None:
    theirs = Store()
    expected = public_lines(host_keys_from(theirs))
    ours = Store()
    ours.rival = dict(theirs)
    assert public_lines(host_keys_from(ours)) == expected


def test_a_key_that_cannot_be_read_stops_the_start() -> None:
    with pytest.raises(UnusableHostKey, match="ssh-ed25519"):
        host_keys_from(Store({"ssh_host_key/ssh-ed25519": "damaged"}))


def test_the_rsa_key_is_long_enough() -> None:
    keys = {key.get_algorithm(): key for key in host_keys_from(Store())}
    assert isinstance(keys["ssh-rsa"], asyncssh.SSHKey)
    assert keys["ssh-rsa"].pyca_key.key_size == 3072
