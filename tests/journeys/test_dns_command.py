"""`mainstay dns` and `mainstay lb keepalived` as an operator runs them, before the real programs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mainstay import cli
from mainstay.boot import failover
from mainstay.boot.settings import load_for_command, traffic_of
from mainstay.ops.traffic.announcing import Facts, announce
from support.name_server import ZONE, NameServer, name_server
from support.route53 import route53, write_access_key
from support.servers import program

_RECORDS = [
    f"git.{ZONE} A 60 one=192.0.2.1 two=192.0.2.2",
    f"long.{ZONE} A 60 one=192.0.2.1 two=192.0.2.2",
]


@pytest.fixture(scope="module")
def bind() -> Iterator[NameServer]:
    with name_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_node_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAINSTAY_DATA", raising=False)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0)


def node(data: Path, server: NameServer, *, key: Path | None = None, records: list[str] = _RECORDS) -> Path:
    data.mkdir(exist_ok=True)
    (data / "mainstay.toml").write_text(
        f'dns_provider = "rfc2136"\ndns_server = "127.0.0.1:{server.port}"\ndns_zone = "{ZONE}"\n'
        f'dns_key_file = "{key or server.key_file}"\ndns_records = {json.dumps(records)}\n'
    )
    return data


def test_check_update_and_promote(
    bind: NameServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = node(tmp_path / "node", bind)
    assert run("dns", "check", "--data", str(data)) == 1
    shown = capsys.readouterr().out
    assert f"git.{ZONE} A " in shown
    assert "leads nowhere: there is no such record yet" in shown
    assert "TTL 3600 s: clients may go to the old site for 60 minutes after a move" in shown
    (warned,) = failover.warnings(load_for_command(data))
    assert warned.startswith(f"long.{ZONE} A: TTL 3600 s: clients may go to the old site")

    assert run("dns", "update", "--to", "one", "--data", str(data)) == 0
    capsys.readouterr()
    assert (bind.ask(f"git.{ZONE}", "A"), bind.ask(f"long.{ZONE}", "A")) == (["192.0.2.1"], ["192.0.2.1"])

    assert run("dns", "check", "--to", "two", "--json", "--data", str(data)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "ok"
    says = [each["says"] for each in answer["findings"]]
    assert "a promotion of two would update it from 192.0.2.1 to 192.0.2.2" in says
    assert "the credentials may change it" in says

    outcomes = announce("promote", Facts(epoch=5, site="two"), traffic=traffic_of(load_for_command(data)))
    assert all(each.is_done for each in outcomes)
    assert bind.ask(f"_mainstay-epoch.git.{ZONE}", "TXT") == ['"mainstay epoch=5 site=two"']
    late = announce("promote", Facts(epoch=4, site="one"), traffic=traffic_of(load_for_command(data)))
    assert all("ours is 4: it is left alone" in each.says for each in late)
    assert bind.ask(f"git.{ZONE}", "A") == ["192.0.2.2"]

    arguments = ("--to", "203.0.113.7", "--name", f"git.{ZONE}", "--json", "--data", str(data))
    assert run("dns", "update", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["records"][0]["is_done"]
    assert bind.ask(f"git.{ZONE}", "A") == ["203.0.113.7"]
    assert run("dns", "update", "--epoch", "3", *arguments) == 2
    assert "ours is 3" in capsys.readouterr().out


def test_a_key_that_is_wrong_is_told_without_its_secret(
    bind: NameServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = node(tmp_path / "node", bind, key=bind.wrong_key_file)
    assert run("dns", "check", "--data", str(data)) == 2
    assert run("config", "check", "--data", str(data)) == 0
    shown = capsys.readouterr()
    assert "has another secret or algorithm for the TSIG key" in shown.out
    secret = bind.wrong_key_file.read_text().split('"')[3]
    assert secret not in shown.out + shown.err


def test_a_node_without_names_says_what_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dns", "check", "--data", str(tmp_path)) != 0
    assert "no record follows the primary: set dns_records" in capsys.readouterr().err


def test_route_53(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with route53() as amazon:
        data = tmp_path / "node"
        data.mkdir()
        (data / "mainstay.toml").write_text(
            f'dns_provider = "route53"\ndns_zone_id = "{amazon.zone_id}"\n'
            f'dns_endpoint = "{amazon.endpoint}"\ndns_key_file = "{write_access_key(tmp_path / "aws")}"\n'
            f"dns_records = {json.dumps(_RECORDS[:1])}\n"
        )
        traffic = traffic_of(load_for_command(data))
        (outcome,) = announce("promote", Facts(epoch=2, site="one"), traffic=traffic)
        assert outcome.says == f"git.{ZONE} A: nothing -> 192.0.2.1"
        assert run("dns", "check", "--to", "two", "--data", str(data)) == 0
        assert "moved last in epoch 2 for one" in capsys.readouterr().out
        assert run("dns", "update", "--to", "two", "--data", str(data)) == 0
        assert amazon.ask(f"git.{ZONE}", "A") == ["192.0.2.2"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"--source": "10.0.0.1", "--state": "master", "--settle": "3", "--router-id": "7"},
        {"--address": "fd00::10/64"},
    ],
)
def test_keepalived_takes_what_is_printed(more: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    program("keepalived")
    options = ["--interface", "eth0", "--address", "10.0.0.10/24", "--peer", "10.0.0.2"]
    options += [word for pair in more.items() for word in pair]
    assert run("lb", "keepalived", *options, "--check") == 0
    assert capsys.readouterr().err == ""
    assert run("lb", "keepalived", *options) == 0
    assert "10.0.0.10/24" in capsys.readouterr().out
    assert run("lb", "keepalived", *options, "--peer", "10.0.0.10") == 2
    assert "10.0.0.10 moves" in capsys.readouterr().err
