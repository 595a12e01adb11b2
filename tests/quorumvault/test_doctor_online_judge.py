"""What doctor makes of a running cluster's answers: each mark on both its sides."""

from __future__ import annotations

import datetime as dt

import pytest
from five_reports import DCS, changed, failing, report, with_groups, with_peers
from msgspec.structs import replace

from node.certificates_left import CertificateLine
from node.report import HsmReport, SpaceReport
from quorumvault.cli.doctor_facts import Finding, Level
from quorumvault.cli.doctor_online import NodeFacts
from quorumvault.cli.doctor_online_judge import judge

NOW = dt.datetime(2026, 11, 28, 10, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def facts(node: int) -> NodeFacts:
    told = report(node)
    homes = [changed(each, leader=each.shard + 1) for each in told.groups]
    authority = CertificateLine("authority", "CN=x", "2036-11-28T00:00:00Z", 3650)
    return NodeFacts(
        node=node,
        seat=node,
        dc=DCS[node],
        client="",
        admin="",
        ops="",
        not_after=NOW + 300 * DAY,
        clock_ahead_s=0.0,
        report=changed(told, groups=homes, certificates=[authority]),
    )


def five(**changes_of_3) -> list[NodeFacts]:
    nodes = [facts(node) for node in DCS]
    nodes[2] = replace(nodes[2], **changes_of_3)
    return nodes


def saying(change) -> list[NodeFacts]:
    """Node 3 reports something else."""
    return five(report=change(facts(3).report))


def wrong(findings: list[Finding]) -> dict[str, str]:
    found = {each.check: str(each.level) for each in findings if each.level is not Level.OK}
    assert all(each.next_step for each in findings if each.check in found)
    assert all(not each.next_step for each in findings if each.check not in found)
    assert len({each.check for each in findings}) == len(findings), "each check is one line"
    return found


def text(findings: list[Finding], check: str) -> str:
    return next(f"{each.found}; {each.next_step}" for each in findings if each.check == check)


def test_five_healthy_nodes_are_one_line_a_check():
    findings = judge(five(), NOW)
    assert wrong(findings) == {}
    assert [each.check for each in findings] == [
        *("cluster", "client listeners", "admin listeners", "ops listeners", "certificate dates"),
        *("authority dates", "clocks", "readiness", "versions", "cluster file", "peer links"),
        *("state hashes", "leaders", "disk room", "HSMs", "configurations", "alarms"),
    ]
    assert text(findings, "cluster") == "healthy: 2 more nodes may fail; "


def test_a_node_that_is_gone_is_named_once_where_it_is_asked():
    gone = {"client": "refused", "admin": "refused", "ops": "refused"}
    findings = judge(five(**gone, report=None, not_after=None, clock_ahead_s=None), NOW)
    assert wrong(findings) == {
        "cluster": "warn",
        "client listener node 3": "fail",
        "admin listener node 3": "fail",
        "ops listener node 3": "warn",
    }
    assert "node 3 (paris): refused" in text(findings, "admin listener node 3")
    assert "quorumvault doctor --config" in text(findings, "admin listener node 3")


def test_without_any_report_only_what_was_seen_is_judged():
    nodes = [replace(facts(node), report=None, admin="no") for node in DCS]
    found = wrong(judge(nodes, NOW))
    assert found.pop("cluster") == "fail"
    assert found == {f"admin listener node {node}": "fail" for node in DCS}


def test_a_certificate_that_does_not_do_has_its_own_next_step():
    reason = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired"
    assert "ca_file" in text(judge(five(client=reason), NOW), "client listener node 3")


def test_what_the_connection_file_does_not_tell_is_no_fault():
    assert wrong(judge(five(ops=None), NOW)) == {}


@pytest.mark.parametrize(
    ("left", "found"),
    [
        (30 * DAY, {}),
        (30 * DAY - dt.timedelta(seconds=1), {"certificate dates node 3": "warn"}),
        (dt.timedelta(seconds=1), {"certificate dates node 3": "warn"}),
        (dt.timedelta(seconds=-1), {"certificate dates node 3": "fail"}),
    ],
)
def test_the_days_of_the_certificate_that_clients_are_shown(left, found):
    assert wrong(judge(five(not_after=NOW + left), NOW)) == found


@pytest.mark.parametrize(
    ("ahead", "found"),
    [
        (2.0, {}),
        (-2.0, {}),
        (2.1, {"clock node 3": "warn"}),
        (-9.0, {"clock node 3": "warn"}),
        (10.1, {"clock node 3": "fail"}),
        (-3600.0, {"clock node 3": "fail"}),
        (None, {}),
    ],
)
def test_a_clock_beside_the_others(ahead, found):
    assert wrong(judge(five(clock_ahead_s=ahead), NOW)) == found


def test_where_all_clocks_are_off_it_is_this_machines():
    nodes = [replace(facts(node), clock_ahead_s=-60.0) for node in DCS]
    findings = judge(nodes, NOW)
    assert wrong(findings) == {"clock of this machine": "warn"}
    assert "most nodes' clocks are 60 s or more behind this one" in text(
        findings, "clock of this machine"
    )
    nodes[2] = replace(nodes[2], clock_ahead_s=0.0)
    found = wrong(judge(nodes, NOW))
    assert found == {"clock of this machine": "warn", "clock node 3": "fail"}


SAID = {
    "drained": (
        lambda told: changed(failing(told, "serving", "drained"), draining=True),
        {"cluster": "warn", "readiness node 3": "warn"},
        "undrain 3",
    ),
    "not ready": (
        lambda told: failing(told, "caught-up", "fetching a snapshot"),
        {"cluster": "warn", "readiness node 3": "fail"},
        "caught-up: fetching a snapshot",
    ),
    "another version": (
        lambda told: changed(told, version="0.2.0"),
        {"versions": "warn"},
        "0.1.0 on 1-2, 4-5, 0.2.0 on 3",
    ),
    "an older cluster file": (
        lambda told: changed(told, revision=-1),
        {"cluster": "warn", "cluster file node 3": "warn"},
        "member sync",
    ),
    "a cut link": (
        lambda told: with_peers(told, {4}, connected=False, last_error="timed out"),
        {"cluster": "warn", "link node 3 to 4": "fail"},
        "node 3 (paris) does not reach node 4 (dublin): timed out",
    ),
    "another hash": (
        lambda told: with_groups(told, hash="cd" * 32),
        {"cluster": "warn", "state hashes": "fail"},
        "shard 0-2",
    ),
    "a short disk": (
        lambda told: changed(told, room="short", space=SpaceReport(1, 1 << 40, 5 << 20, 1 << 30)),
        {"disk room node 3": "warn"},
        "is short: 5 MiB free",
    ),
    "a full disk": (
        lambda told: changed(told, room="full"),
        {"disk room node 3": "fail"},
        "make room there",
    ),
    "an HSM away": (
        lambda told: changed(told, hsm=HsmReport(healthy=False, reason="token removed")),
        {"cluster": "warn", "HSM node 3": "fail"},
        "token removed",
    ),
    "a refused reload": (
        lambda told: changed(
            told, failed_reload="x cannot be read", alarms=["configuration: x cannot be read"]
        ),
        {"cluster": "warn", "configuration node 3": "warn"},
        "node reload 3",
    ),
    "an alarm": (
        lambda told: changed(told, alarms=["wrong shares of seat 2"]),
        {"cluster": "warn", "alarms node 3": "fail"},
        "wrong shares of seat 2",
    ),
}


@pytest.mark.parametrize(("change", "found", "words"), SAID.values(), ids=SAID)
def test_what_a_node_says_of_itself(change, found, words):
    findings = judge(saying(change), NOW)
    assert found.items() <= wrong(findings).items()
    assert wrong(findings).keys() - found.keys() <= {"cluster"}
    bad = [each for each in findings if each.level is not Level.OK and each.check != "cluster"]
    assert words in " ".join(f"{each.found}; {each.next_step}" for each in bad)


def led_by(node: int) -> list[NodeFacts]:
    """Shard 0, whose seat is 1, is led by this node; 0: by nobody."""
    nodes = []
    for each in five():
        first, *others = each.report.groups
        role = "leader" if each.node == node else "follower"
        first = changed(first, leader=node, role=role, lags={})
        nodes.append(replace(each, report=changed(each.report, groups=[first, *others])))
    return nodes


def test_shards_are_led_from_their_own_seat_if_that_one_is_well():
    assert wrong(judge(led_by(1), NOW)) == {}
    assert wrong(judge(led_by(4), NOW)) == {"leaders": "warn"}
    assert "nobody leads shard 0" in text(judge(led_by(0), NOW), "leaders")
    away = led_by(4)
    away[0] = replace(away[0], report=changed(away[0].report, draining=True))
    assert "leaders" not in wrong(judge(away, NOW))
