"""Settings of names and hooks: read, checked together, kept as files, and of each machine alone."""

from pathlib import Path

import pytest

from mainstay.boot import inviting, settings, steering
from mainstay.boot.parsing import Address, address_of_name_server
from mainstay.boot.settings import (
    InvalidSettings,
    as_text,
    assemble,
    load,
    load_for_command,
    remember,
    traffic_of,
)
from mainstay.foundation.errors import Invalid

_RECORDS = "git.example.org A 60 one=192.0.2.1 two=192.0.2.2"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "environment", dict)


def node(data: Path, text: str) -> Path:
    data.mkdir(exist_ok=True)
    (data / "mainstay.toml").write_text(text)
    return data


def with_names(data: Path, *, key_mode: int = 0o600) -> Path:
    key = data / "key"
    node(
        data,
        f'dns_provider = "rfc2136"\ndns_server = "ns1.example.org"\ndns_zone = "example.org"\n'
        f'dns_key_file = "{key}"\n'
        f'dns_records = ["{_RECORDS}", "ssh.example.org CNAME 60 one=a.example.org"]\n',
    )
    key.write_text("")
    key.chmod(key_mode)
    return data


def test_what_the_file_says_is_what_a_promotion_uses(tmp_path: Path) -> None:
    chosen = load({"data": str(with_names(tmp_path))})
    traffic = traffic_of(chosen)
    assert [str(each) for each in traffic.records] == [_RECORDS, "ssh.example.org CNAME 60 one=a.example.org"]
    assert (traffic.provider, traffic.server_host, traffic.server_port) == ("rfc2136", "ns1.example.org", 53)
    assert (traffic.zone, traffic.key_file, traffic.on_promote) == ("example.org", tmp_path / "key", None)
    (tmp_path / "run").mkdir()
    remember(chosen)
    assert load_for_command(tmp_path) == chosen
    assert assemble(tmp_path, [as_text(chosen)]) == chosen


def test_without_a_word_nobody_is_told_anything(tmp_path: Path) -> None:
    traffic = traffic_of(load({"data": str(tmp_path)}))
    assert (traffic.records, traffic.provider, traffic.on_promote, traffic.on_demote) == (
        (),
        "none",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('on_promote = "hook"', "on_promote: 'hook' is not an absolute path"),
        ('on_demote = "/no/such/hook"', "on_demote: cannot look at /no/such/hook: No such file or directory"),
        (
            'dns_records = ["git.example.org A 60"]',
            "dns_records: 'git.example.org A 60' is not NAME TYPE TTL",
        ),
        (f'dns_records = ["{_RECORDS}"]', "dns_records: say with dns_provider who keeps them"),
        ('dns_provider = "hosts"', "dns_provider: 'hosts' is none of none, rfc2136, route53"),
        ("hook_seconds = 0", "hook_seconds: '0' is not a whole number from 1 to 600"),
        (
            f'dns_provider = "route53"\ndns_records = ["{_RECORDS}"]',
            "dns_zone_id: needed for dns_provider route53",
        ),
    ],
)
def test_a_node_with_a_wrong_choice_does_not_start(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidSettings) as error:
        load({"data": str(node(tmp_path, text))})
    assert any(each.startswith(said) for each in error.value.problems), error.value.problems


def test_a_hook_and_a_key_that_strangers_could_use_are_refused(tmp_path: Path) -> None:
    data = with_names(tmp_path, key_mode=0o644)
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o777)
    with (data / "mainstay.toml").open("a") as file:
        file.write(f'on_promote = "{hook}"\n')
    with pytest.raises(InvalidSettings) as error:
        load({"data": str(data)})
    assert error.value.problems == [
        f"on_promote: everybody can write to {hook}, and so could choose what this node runs: chmod o-w it",
        f"dns_key_file: others can read {data / 'key'}: chmod 600 it",
    ]


def test_these_settings_stay_on_their_machine() -> None:
    assert set(steering.NAMES) <= set(inviting.LOCAL)
    assert set(steering.NAMES) <= set(settings.OPTION_NAMES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("ns1.example.org", Address("ns1.example.org", 53)),
        ("ns1.example.org:5353", Address("ns1.example.org", 5353)),
        ("192.0.2.53", Address("192.0.2.53", 53)),
        ("2001:db8::53", Address("2001:db8::53", 53)),
        ("[2001:db8::53]", Address("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", Address("2001:db8::53", 5353)),
    ],
)
def test_a_name_server_listens_on_53_unless_told(text: str, expected: Address | None) -> None:
    assert address_of_name_server(text) == expected


def test_a_port_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is not HOST:PORT"):
        address_of_name_server("ns1.example.org:dns")
