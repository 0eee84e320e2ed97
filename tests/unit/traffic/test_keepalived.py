"""The text for keepalived. That it does what it says: `tests/cluster/test_floating_address.py`."""

from dataclasses import replace

import pytest

from mainstay.provision.traffic.keepalived import (
    ANSWERS,
    SERVES,
    BadFloatingAddress,
    FloatingAddress,
    keepalived_configuration,
)

PLAIN = FloatingAddress(interface="eth0", addresses=("10.0.0.10/24",), peers=("10.0.0.2",))


def test_the_same_description_gives_the_same_text() -> None:
    text = keepalived_configuration(PLAIN)
    assert text == keepalived_configuration(PLAIN)
    assert "state BACKUP" in text
    assert "unicast_peer {\n        10.0.0.2\n    }" in text
    assert "virtual_ipaddress {\n        10.0.0.10/24\n    }" in text
    for absent in ("unicast_src_ip", "notify ", "virtual_ipaddress_excluded", "auth_pass", "nopreempt\n"):
        assert absent not in text.partition("global_defs")[2]


def test_who_serves_goes_before_all_others_and_who_answers_before_the_silent() -> None:
    assert SERVES + ANSWERS > ANSWERS > 0
    text = keepalived_configuration(replace(PLAIN, settle_s=7, status_url="https://[::1]:8443/status"))
    serves, answers = text.split("vrrp_script ")[1:]
    assert "--fail" in serves
    assert "rise 7\n" in serves
    assert f"weight {SERVES}\n" in serves
    assert "--fail" not in answers
    assert f"weight {ANSWERS}\n" in answers
    assert text.count("https://[::1]:8443/status") == 2


def test_all_that_can_be_said() -> None:
    text = keepalived_configuration(
        FloatingAddress(
            interface="bond0.12",
            addresses=("10.0.0.10/24", "2001:db8::10/64"),
            peers=("2001:db8::2", "2001:db8::3"),
            source="2001:db8::1",
            state="master",
            router_id=9,
            priority=90,
            notify="/usr/local/bin/moved",
        )
    )
    assert "virtual_ipaddress {\n        2001:db8::10/64\n    }" in text
    assert "virtual_ipaddress_excluded {\n        10.0.0.10/24\n    }" in text
    for said in (
        "state MASTER",
        "virtual_router_id 9",
        "priority 90",
        "unicast_src_ip 2001:db8::1",
        'notify "/usr/local/bin/moved"',
    ):
        assert f"    {said}\n" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"addresses": ("10.0.0.10",)}, "is not an address with its network"),
        ({"addresses": ()}, "name at least one --address"),
        ({"peers": ()}, "and one --peer"),
        ({"peers": ("n2",)}, "'n2' is not an address"),
        ({"peers": ("10.0.0.2", "2001:db8::2")}, "all of IPv4 or all of IPv6"),
        ({"addresses": ("2001:db8::10/64",)}, "one --address at least is of IPv4, as the peers are"),
        ({"source": "10.0.0.2"}, "10.0.0.2 is this machine, and so no peer of it"),
        ({"source": "10.0.0.10"}, "10.0.0.10 moves, and so cannot be the address of a machine"),
        ({"addresses": tuple(f"10.0.0.{n}/24" for n in range(10, 31))}, "20 addresses at most"),
        ({"interface": "eth0 }"}, "is no name of an interface"),
        ({"status_url": 'http://x/"; rm'}, "is no plain URL"),
        ({"notify": "relative"}, "is no plain absolute path"),
        ({"router_id": 0}, "a router id is from 1 to 255"),
        ({"priority": 200}, "a priority is from 1 to 184 here"),
        ({"settle_s": 0}, "the time to settle is from 1 to 600 s"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadFloatingAddress) as error:
        keepalived_configuration(replace(PLAIN, **change))  # type: ignore[arg-type]  # wrong on purpose
    assert said in str(error.value)
