"""The files in deploy/ and the pages about them: taken by the real programs, true to the code."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from architecture.house import ROOT
from support.servers import program

UNITS = ROOT / "deploy" / "systemd"
RULES = ROOT / "deploy" / "prometheus" / "mainstay.rules.yml"
RULE_TESTS = RULES.with_name("mainstay.rules.test.yml")
DASHBOARD = ROOT / "deploy" / "grafana" / "mainstay.json"
RUNBOOK = ROOT / "docs" / "run" / "alerts.md"
_METRIC = re.compile(r"\bmainstay_[a-z0-9_]+")
_SUFFIXES = ("_bucket", "_sum", "_count")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def metrics_in_the_code() -> set[str]:
    """The reference is written from the code, and another test sees that it is current."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    return set(re.findall(r"^\| `(mainstay_\w+)` \|", page, re.MULTILINE))


def unknown_metrics(text: str) -> set[str]:
    known = metrics_in_the_code()
    assert known
    return {
        name for name in _METRIC.findall(text) if name not in known and _without_suffix(name) not in known
    }


def _without_suffix(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


# systemd
def as_installed(directory: Path) -> Iterator[Path]:
    """The units as they would lie in /etc/systemd/system, with a program that exists here."""
    for unit in sorted(UNITS.glob("*.service")):
        name = unit.name.replace("@", "@git")
        text = unit.read_text().replace("/opt/mainstay/bin/mainstay ", "/bin/true ")
        assert text != unit.read_text()
        file = directory / name
        file.write_text(text)
        drop_in = directory / f"{name}.d" / "low-ports.conf"
        drop_in.parent.mkdir()
        drop_in.write_text((UNITS / "mainstay-low-ports.conf").read_text())
        yield file


def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    files = list(as_installed(tmp_path))
    assert len(files) == 2
    verified = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", *files],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:/lib/systemd/system"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_systemd_would_say_something_about_a_wrong_unit(tmp_path: Path) -> None:
    """The control: the check above can fail."""
    (tmp_path / "wrong.service").write_text("[Service]\nExecStart=/no/such/program\nKillMood=mixed\n")
    verified = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", tmp_path / "wrong.service"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "KillMood" in verified.stdout + verified.stderr


@pytest.mark.parametrize("unit", ["mainstay.service", "mainstay@.service"])
def test_a_unit_gives_a_drain_its_time_and_leaves_a_drained_node_down(unit: str) -> None:
    said = dict(re.findall(r"^(\w+)=(.*)$", (UNITS / unit).read_text(), re.MULTILINE))
    settings = (ROOT / "docs" / "reference" / "settings.md").read_text()
    drain = re.search(r"\| `drain_seconds` \|[^|]*\| `(\d+)` \|", settings)
    assert drain is not None
    assert int(said["TimeoutStopSec"]) >= int(drain[1]) + 20
    assert (said["Restart"], said["KillMode"], said["Type"]) == ("on-failure", "mixed", "exec")
    assert (said["ProtectSystem"], said["NoNewPrivileges"], said["PrivateTmp"]) == ("strict", "true", "true")


def test_the_second_unit_is_the_first_with_another_name() -> None:
    """So that a change of one is a change of both."""

    def settings_of(unit: str) -> list[str]:
        lines = (UNITS / unit).read_text().splitlines()
        kept = [line for line in lines if line and not line.startswith(("#", "Description"))]
        return [line.replace("mainstay-%i", "mainstay").replace("%i", "mainstay") for line in kept]

    first = [
        line.replace("/environment", "/mainstay.environment") for line in settings_of("mainstay.service")
    ]
    assert settings_of("mainstay@.service") == first


# Prometheus
def test_promtool_takes_the_rules_and_their_tests_pass() -> None:
    for arguments in (["check", "rules", RULES], ["test", "rules", RULE_TESTS]):
        checked = subprocess.run(
            [program("promtool"), *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_enough_alerts_are_tested() -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    fired = {
        each["alertname"] for test in tests for each in test["alert_rule_test"] if each.get("exp_alerts")
    }
    assert len(fired) >= 6
    assert fired <= {alert["alert"] for alert in alerts()}


def test_alerts_ask_for_metrics_that_exist() -> None:
    expressions = "\n".join(rule["expr"] for rule in rules())
    assert len(set(_METRIC.findall(expressions))) > 10
    assert unknown_metrics(expressions) == set()


def test_recorded_series_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = set(re.findall(r"\bmainstay:[a-z0-9_:]+", "\n".join(rule["expr"] for rule in rules())))
    assert used <= recorded


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    headings = re.findall(r"^## (Mainstay\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert headings == [alert["alert"] for alert in alerts()], "in the same order"
    for alert in alerts():
        assert alert["annotations"]["runbook_url"] == f"docs/run/alerts.md#{alert['alert'].lower()}"
        assert alert["annotations"]["summary"]
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}


def test_every_page_says_what_it_means_and_what_to_do() -> None:
    sections = re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    assert sections
    short = [
        section.splitlines()[0]
        for section in sections
        if not all(word in section for word in ("**Means**", "**Look**", "**Do**"))
    ]
    assert short == []


# Grafana
def test_the_dashboard_is_json_and_shows_metrics_that_exist() -> None:
    board = json.loads(DASHBOARD.read_text())
    graphs = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(graphs) > 10
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    queries = [target["expr"] for panel in graphs for target in panel["targets"]]
    assert all(panel["targets"] for panel in graphs)
    assert unknown_metrics("\n".join(queries)) == set()


def test_pages_name_metrics_that_exist() -> None:
    text = "\n".join(page.read_text() for page in sorted((ROOT / "docs" / "run").glob("*.md")))
    assert len(set(_METRIC.findall(text))) > 10
    assert unknown_metrics(text) == set()
