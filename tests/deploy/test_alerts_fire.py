"""Alerts fire in a real Prometheus for real faults of a real vault, are told, and clear.

rules.yml, prometheus.yml and alertmanager.yml are the deployment's own, on a clock twenty times as
fast (quicker.py). docs/alerts.md has the times of one run with `-s`.
"""

from __future__ import annotations

import dashboards
import pytest
from accounts import Account
from disk_vault import DiskVault
from harness import wait_until
from watch import Watch

from chaos.process_disk import why_no_mount

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

GUESSES = 2
MANY = 24
"""More than the 20 lockouts that are a spike."""


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    vault = DiskVault(
        tmp_path_factory.mktemp("watched-vault"), wan="none", shards=4, limit=GUESSES, grace_s=1
    )
    yield vault
    vault.close()


@pytest.fixture(scope="module")
def watch(vault, tmp_path_factory):
    watch = Watch(vault, tmp_path_factory.mktemp("watch"))
    yield watch
    watch.close()


@pytest.fixture(autouse=True)
def _all_well_again(vault):
    yield
    for node in vault.cluster.nodes.values():
        away = node.token_dir.with_name("tokens-away")
        if away.exists():
            away.rename(node.token_dir)
    vault.heal()


def test_all_is_well_and_only_the_watchdog_is_heard(vault, watch):
    wait_until(lambda: watch.told("Watchdog", "firing"), "the watchdog is told")
    wait_until(lambda: watch.query("quorumvault:failures_tolerated:min == 2"), "two nodes may fail")
    heard = [told for told in watch.listener.told if told.status == "firing"]
    assert {told.receiver for told in heard if told.at >= watch.settled_at} <= {"watchdog"}


def test_many_accounts_that_lose_their_keys_are_told_at_once(vault, watch):
    accounts = [
        (vault.ids[number % 5], Account(vault, f"spike-{number}")) for number in range(MANY)
    ]
    for node, account in accounts:
        account.register(node, b"right", b"k" * 32)
    fault = watch.fault("LockoutSpike")
    for node, account in accounts:
        for guess in range(GUESSES):
            account.guess(node, b"wrong-%d" % guess)
        account.close()
    fault.ended()
    fault.fires()
    fault.is_told_to("page")
    fault.clears()


@pytest.mark.parametrize("path", dashboards.FILES, ids=lambda path: path.stem)
def test_every_panel_of_every_dashboard_has_data(watch, path):
    for name, query in dashboards.expressions(dashboards.load(path)).items():
        if "annotation" not in name:  # no page fires now
            wait_until(lambda asked=query: watch.query(asked), f"{name} has data: {query}")


def test_nodes_die_one_after_the_other_and_each_step_is_told(vault, watch):
    down = watch.fault("NodeDown")
    vault.kill(5)
    down.pends()
    alert = down.fires()[0]
    assert alert["labels"] | {"node": "5", "dc": "stockholm"} == alert["labels"]
    down.is_told_to("ticket")
    assert watch.in_prometheus("QuorumAtRisk", "firing") == []

    risk = watch.fault("QuorumAtRisk")
    vault.kill(4)
    risk.pends()
    assert "Only 3 nodes" in risk.fires()[0]["annotations"]["description"]
    risk.is_told_to("page")
    assert watch.in_prometheus("NoLeader", "firing") == []

    still = watch.fault("NoLeader")
    vault.kill(3)
    still.pends()
    still.fires()
    still.is_told_to("page")
    wait_until(
        lambda: {a["labels"]["shard"] for a in watch.in_alertmanager("NoLeader")} == set("0123"),
        "every shard is named",
    )

    def stands_behind(name):
        alerts = watch.in_alertmanager(name)
        return alerts and all(alert["status"]["inhibitedBy"] for alert in alerts)

    for name in ("NodeDown", "QuorumAtRisk"):
        wait_until(lambda each=name: stands_behind(each), f"{name} is inhibited by NoLeader")
    for fault in (down, risk, still):
        fault.ended()
    vault.restart(3, 4, 5)
    still.clears()
    risk.clears()
    down.clears()


def test_an_hsm_that_is_away_is_told_and_it_alone(vault, watch):
    tokens = vault.cluster.nodes[2].token_dir
    away = tokens.with_name("tokens-away")
    fault = watch.fault("HSMDown")
    tokens.rename(away)
    fault.pends()
    (alert,) = fault.fires()
    assert (alert["labels"]["node"], alert["labels"]["dc"]) == ("2", "amsterdam")
    fault.is_told_to("ticket")
    away.rename(tokens)
    fault.ended()
    fault.clears()


@pytest.mark.skipif(why_no_mount() is not None, reason=str(why_no_mount()))
def test_a_disk_filled_to_the_last_byte_is_told_and_clears_when_there_is_room(vault, watch):
    fault = watch.fault("DiskFull")
    vault.disks[1].fill()
    fault.pends()
    (alert,) = fault.fires()
    assert alert["labels"]["node"] == "1"
    fault.is_told_to("page")
    vault.disks[1].free()
    fault.ended()
    fault.clears()


def test_nobody_was_woken_for_anything_else(watch):
    woken = {each.labels["alertname"] for each in watch.listener.told if each.receiver == "page"}
    assert woken <= {"LockoutSpike", "QuorumAtRisk", "NoLeader", "DiskFull"}
    others = {each.labels["alertname"] for each in watch.listener.told if each.receiver == "ticket"}
    print(f"tickets: {sorted(others)}")  # noqa: T201 - the evidence
