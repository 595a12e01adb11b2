"""The dashboards are well formed, made from their source, and ask only for what there is.

Grafana itself comes from a registry; what it would do with them is checked as far as that goes
without it. That every panel has data in a real Prometheus is tested in test_alerts_fire.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import dashboards
import pytest
import yaml
from test_alerts import METRIC, RECORD, RECORDED, run

from node import metrics_page

UNITS = {"short", "s", "ops", "reqps", "Bps", "bytes", "percentunit"}
ALL = {path.stem: dashboards.load(path) for path in dashboards.FILES}


@pytest.fixture(params=ALL.values(), ids=ALL)
def page(request):
    return request.param


def test_the_files_are_what_their_source_makes():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import json, make; "
        "print(json.dumps(make.rendered()))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, str(dashboards.FOLDER)],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    made = yaml.safe_load(done.stdout)
    assert made.keys() == {path.name for path in dashboards.FILES}
    for path in dashboards.FILES:
        assert path.read_text() == made[path.name], "run: python deploy/grafana/make.py"


def test_every_panel_says_what_it_shows_in_which_unit_and_what_is_bad(page):
    for panel in page["panels"]:
        assert len(panel["title"]) <= 40
        assert panel["description"].endswith("."), panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] in UNITS
        assert defaults["thresholds"]["steps"][0]["value"] is None
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["expr"] == target["expr"].strip()
            assert target["legendFormat"] or panel["type"] in ("stat", "table"), panel["title"]


def test_panels_have_their_own_number_and_place(page):
    numbers = [panel["id"] for panel in page["panels"]]
    assert sorted(set(numbers)) == sorted(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in page["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_pages_have_their_own_name_and_title_and_fill_their_rows(page):
    assert len({each["uid"] for each in ALL.values()}) == len(ALL)
    assert len({each["title"] for each in ALL.values()}) == len(ALL)
    assert re.fullmatch(r"quorumvault-[a-z]+", page["uid"])
    rows = {panel["gridPos"]["y"] for panel in page["panels"]}
    for row in rows:
        width = sum(p["gridPos"]["w"] for p in page["panels"] if p["gridPos"]["y"] == row)
        assert width == 24 or row == max(rows), (page["title"], row)


def test_only_variables_that_exist_are_used(page):
    known = {each["name"] for each in page["templating"]["list"]} | {"__rate_interval"}
    for panel in page["panels"]:
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= known
            labels = re.findall(r"{{(\w+)}}", target["legendFormat"])
            for label in labels:
                assert label in target["expr"] or label in ("node", "dc", "peer"), panel["title"]


def test_prometheus_understands_every_query(page, tmp_path):
    rules = [
        {"record": f"query:{number}", "expr": expression}
        for number, expression in enumerate(dashboards.expressions(page).values())
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run("promtool", "check", "rules", "--lint=none", str(path))


def test_every_metric_that_a_query_names_exists_in_a_running_node(page, answers):
    real = set().union(*map(metrics_page.names, metrics_page.families(answers).values()))
    for where, expression in dashboards.expressions(page).items():
        recorded = set(re.findall(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", expression))
        assert recorded <= set(RECORDED), where
        for metric in METRIC.findall(RECORD.sub("", expression)):
            assert metric in real, f"{where} names {metric}, which no node has"


def test_grafana_finds_prometheus_and_the_dashboards_where_compose_puts_them():
    deploy = Path(dashboards.FOLDER).parent
    compose = yaml.safe_load((deploy / "docker-compose.monitoring.yml").read_text())
    source = yaml.safe_load(
        (dashboards.FOLDER / "provisioning/datasources/prometheus.yml").read_text()
    )["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
    grafana = compose["services"]["grafana"]
    folder = yaml.safe_load(
        (dashboards.FOLDER / "provisioning/dashboards/quorumvault.yml").read_text()
    )["providers"][0]["options"]["path"]
    assert f"./grafana/dashboards:{folder}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.removeprefix(f"{folder}/") in {path.name for path in dashboards.FILES}
