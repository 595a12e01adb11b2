"""Every alert has a test that fires, misses narrowly and clears, a page, and metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from node import metrics_page

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "rules.yml"
EVERY = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in EVERY if "alert" in rule]
RECORDED = [rule["record"] for rule in EVERY if "record" in rule]
ALERTMANAGER = ROOT / "deploy" / "alertmanager"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Next steps", "Clears"]
METRIC = re.compile(r"\b(?:quorumvault|process)_[a-z0-9_]+")
RECORD = re.compile("|".join(map(re.escape, RECORDED)))


def name(rule):
    return rule["alert"]


@pytest.fixture(params=ALERTS, ids=name)
def alert(request):
    return request.param


def run(tool, *arguments):
    program = shutil.which(tool)
    assert program, f"{tool} is missing: run deploy/system-packages.sh --test"
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_and_the_configurations_are_well_formed():
    run("promtool", "check", "rules", str(RULES))
    run("promtool", "check", "config", str(PROMETHEUS / "prometheus.yml"))
    run("amtool", "check-config", *map(str, ALERTMANAGER.glob("*.yml")))


def test_every_alert_fires_misses_narrowly_and_clears():
    files = sorted((PROMETHEUS / "tests").glob("*.yml"))
    assert {path.stem for path in files} == {"recorded", *map(name, ALERTS)}
    run("promtool", "test", "rules", *map(str, files))


def test_no_alert_lacks_one_of_its_three_tests(alert):
    document = yaml.safe_load((PROMETHEUS / "tests" / f"{name(alert)}.yml").read_text())
    fired = {
        test["name"]: [bool(check["exp_alerts"]) for check in test["alert_rule_test"]]
        for test in document["tests"]
    }
    checked = {
        check["alertname"] for test in document["tests"] for check in test["alert_rule_test"]
    }
    assert checked == {name(alert)}
    if name(alert) == "Watchdog":
        assert fired == {"fires": [True]}
    else:
        least = {"fires": [True], "near miss": [False], "clears": [True, False]}
        assert fired | least == fired


def test_every_alert_says_how_urgent_it_is_what_it_means_and_where_its_page_is(alert):
    assert alert["labels"]["severity"] in {"page", "ticket"}
    notes = alert["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/runbooks/{name(alert)}.md"
    page = (ROOT / notes["runbook_url"]).read_text()
    assert page.startswith(f"# {name(alert)}\n\nSeverity: {alert['labels']['severity']}.\n")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SECTIONS
    for section in page.split("\n## ")[1:]:
        assert len(section.partition("\n")[2].strip()) > 5, section
    assert f"[{name(alert)}](runbooks/{name(alert)}.md)" in (ROOT / "docs/alerts.md").read_text()


def test_what_is_recorded_is_used_and_named_by_level_metric_and_operation():
    used = " ".join(rule["expr"] for rule in EVERY)
    used += " ".join(path.read_text() for path in (ROOT / "deploy" / "grafana").rglob("*.json"))
    for record in RECORDED:
        assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", record)
        assert record in used


def test_alertmanager_tells_of_every_severity_and_inhibits_only_alerts_that_exist():
    document = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text())
    receivers = {each["name"] for each in document["receivers"]}
    assert receivers == {"page", "ticket", "watchdog"}
    example = yaml.safe_load((ALERTMANAGER / "receivers.example.yml").read_text())
    assert receivers == {each["name"] for each in example["receivers"]}
    matchers = [
        matcher
        for rule in document["inhibit_rules"]
        for side in ("source_matchers", "target_matchers")
        for matcher in rule[side]
    ]
    named = set(re.findall(r"[A-Z]\w+", " ".join(matchers)))
    assert named
    assert named <= set(map(name, ALERTS))


def test_no_page_is_of_an_alert_that_does_not_exist():
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages == {name(rule) for rule in ALERTS}


def test_every_metric_that_rules_and_pages_name_exists_in_a_running_node(answers):
    real = set().union(*map(metrics_page.names, metrics_page.families(answers).values()))
    texts = [RULES, *(ROOT / "docs" / "runbooks").glob("*.md")]
    named = {
        (path.name, metric)
        for path in texts
        for metric in METRIC.findall(RECORD.sub("", path.read_text()))
    }
    assert named
    for where, metric in sorted(named):
        exists = metric in real
        # A page may show what several metrics begin with.
        begins = where != RULES.name and any(each.startswith(metric) for each in real)
        assert exists or begins, f"{where} names {metric}, which no node has"
