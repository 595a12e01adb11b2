"""The transformation of the firing test changes durations and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import quicker
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
WINDOW = re.compile(r"\[\d+m?s?h?\]|\[\d+ms\]")


@pytest.mark.parametrize(
    ("duration", "factor", "least", "short"),
    [
        ("1m", 20, 1, "3000ms"),
        ("30s", 20, 1, "1500ms"),
        ("15m", 20, 4000, "45000ms"),
        ("1m", 20, 4000, "4000ms"),
        ("6h", 20, 4000, "1080000ms"),
        ("500ms", 1000, 1, "1ms"),
    ],
)
def test_a_duration_is_divided_but_not_below_the_least(duration, factor, least, short):
    assert quicker.shorter(duration, factor, least) == short


def test_a_duration_that_is_not_understood_is_refused():
    with pytest.raises(AssertionError, match="1h30m is no duration of one unit"):
        quicker.shorter("1h30m", 20)


def test_only_the_durations_of_the_rules_change():
    quick = quicker.rules(RULES, 20)
    for before, after in zip(RULES["groups"], quick["groups"], strict=True):
        for rule, fast in zip(before["rules"], after["rules"], strict=True):
            assert WINDOW.sub("[]", fast["expr"]) == WINDOW.sub("[]", rule["expr"])
            assert len(WINDOW.findall(fast["expr"])) == len(WINDOW.findall(rule["expr"]))
            assert fast.keys() == rule.keys()
            for key in rule.keys() - {"expr", "for"}:
                assert fast[key] == rule[key]
            if "for" in rule:
                assert quicker.milliseconds(fast["for"]) * 20 == quicker.milliseconds(rule["for"])
    assert any("[45000ms]" in rule["expr"] for rule in quick["groups"][0]["rules"])


def test_a_factor_of_one_changes_no_duration():
    same = quicker.rules(RULES, 1)["groups"][0]["rules"]
    for rule, fast in zip(RULES["groups"][0]["rules"], same, strict=True):
        if "for" in rule:
            assert quicker.milliseconds(rule["for"]) == quicker.milliseconds(fast["for"])


def test_routes_and_inhibitions_stay_as_they_are():
    shipped = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    quick = quicker.alertmanager(shipped, 20, "http://127.0.0.1:1")
    assert quick["inhibit_rules"] == shipped["inhibit_rules"]
    assert quick["route"]["group_by"] == shipped["route"]["group_by"]
    assert quick["route"]["group_wait"] == "500ms"
    assert [(each["receiver"], each["matchers"]) for each in quick["route"]["routes"]] == [
        (each["receiver"], each["matchers"]) for each in shipped["route"]["routes"]
    ]
