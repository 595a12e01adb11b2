"""What the answers of a running cluster mean, and what to do: pure, one function for each check.

As in doctor_judge: a warning will hurt one day, a failure hurts now. A check that all nodes pass is
one line; of those that do not, each has its own.
"""

from __future__ import annotations

import datetime as dt
import statistics
from typing import TYPE_CHECKING, Final

from cluster.elections import preferred_node
from cluster.types import NodeId, Seat, ShardId
from node import verdict
from node.verdict_links import Place, Silent
from node.verdict_why import ranges
from quorumvault.cli.doctor_judge import CERTIFICATE_WARN_DAYS, fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node.report import StatusReport
    from node.verdict import Overview
    from quorumvault.cli.doctor_facts import Finding
    from quorumvault.cli.doctor_online import NodeFacts

CLOCK_WARN_S: Final = 2.0
CLOCK_FAIL_S: Final = 10.0
"""A token from an issuer whose clock is that far ahead is refused (node.tokens)."""
ON_ITS_MACHINE: Final = "run 'quorumvault doctor --config node.toml' on its machine"
CONFIGURATION: Final = "configuration: "
"""What the alarm of a refused reload begins with (node.reload)."""


def judge(nodes: Sequence[NodeFacts], now: dt.datetime) -> list[Finding]:
    """All findings: the cluster, what answers, then what the nodes say."""
    reports = [each.report for each in nodes if each.report is not None]
    found = verdict.judge(
        [Place(each.node, each.seat, each.dc) for each in nodes],
        {each.node: each.report or Silent(each.admin) for each in nodes},
    )
    findings = [cluster(found), *listening(nodes), *certificates(nodes, now), *clocks(nodes)]
    if not reports:
        return findings
    return [
        *findings,
        *readiness(nodes),
        *versions(reports),
        *revisions(nodes),
        *links(nodes),
        hashes(found),
        *leaders(nodes, found),
        *rooms(nodes),
        *hsms(nodes),
        *configurations(nodes),
        *alarms(nodes),
    ]


def _each(check: str, fine: str, wrong: list[Finding]) -> list[Finding]:
    """One line when no node is wrong, else one for each that is."""
    return wrong or [ok(check, fine)]


def _name(each: NodeFacts) -> str:
    return f"node {each.node} ({each.dc})"


def _told(nodes: Iterable[NodeFacts]) -> list[tuple[NodeFacts, StatusReport]]:
    return [(each, each.report) for each in nodes if each.report is not None]


def cluster(found: Overview) -> Finding:
    """The verdict of `cluster status`."""
    many = "node" if found.failures_tolerated == 1 else "nodes"
    text = f"{found.verdict}: {found.failures_tolerated} more {many} may fail"
    step = "mend what is named below; quorumvault cluster status tells when it is"
    if found.verdict == "healthy":
        return ok("cluster", text)
    return (fail if found.verdict == "no-quorum" else warn)("cluster", text, step)


def listening(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """Who answers where."""
    findings = []
    for name, whom in (("client", "clients"), ("admin", "operators")):
        wrong = [
            fail(f"{name} listener node {each.node}", f"{_name(each)}: {why}", _way(why))
            for each in nodes
            if (why := getattr(each, name))
        ]
        findings += _each(f"{name} listeners", f"all {len(nodes)} answer {whom}", wrong)
    untold = [each for each in nodes if each.ops is None]
    if untold:
        findings.append(ok("ops listeners", "the connection file does not say where all are"))
    wrong = [
        warn(
            f"ops listener node {each.node}",
            f"{_name(each)}: {each.ops}",
            "if it is meant to be reached from here (metrics, console): see listen.ops",
        )
        for each in nodes
        if each.ops
    ]
    if wrong or not untold:
        findings += _each("ops listeners", f"all {len(nodes)} answer", wrong)
    return findings


def _way(why: str) -> str:
    if "certificate" in why.lower():
        return f"its certificate does not do for its address or your ca_file: {ON_ITS_MACHINE}"
    return f"is it up, and does a firewall stand between? {ON_ITS_MACHINE}"


def certificates(nodes: Sequence[NodeFacts], now: dt.datetime) -> list[Finding]:
    """The days left of what clients are shown, and of the authorities that nodes go by."""
    days = {each.node: (each.not_after - now).days for each in nodes if each.not_after}
    least = min(days.values(), default=0)
    wrong = [
        _ending(f"certificate dates node {each.node}", _name(each), days[each.node])
        for each in nodes
        if each.node in days and days[each.node] < CERTIFICATE_WARN_DAYS
    ]
    findings = _each("certificate dates", f"{least} days left or more", wrong) if days else []
    ends = [
        line.days_left
        for _, report in _told(nodes)
        for line in report.certificates
        if line.name == "authority"
    ]
    if not ends:
        return findings
    found = f"{min(ends)} days left"
    step = "plan a new cluster: clients pin the authority"
    good = min(ends) >= CERTIFICATE_WARN_DAYS
    return [
        *findings,
        ok("authority dates", found) if good else warn("authority dates", found, step),
    ]


def _ending(check: str, name: str, days: int) -> Finding:
    step = "quorumvault certs renew, copy the pair to it, quorumvault node reload"
    if days < 0:
        return fail(check, f"{name}: its certificate has ended", step)
    return warn(check, f"{name}: {days} days left", step)


def clocks(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """Each node's clock beside ours; if most are off in the same way, it is ours that is."""
    known = {each.node: each.clock_ahead_s for each in nodes if each.clock_ahead_s is not None}
    if not known:
        return []
    ours = statistics.median(known.values()) if len(known) > 2 else 0.0
    if abs(ours) <= CLOCK_WARN_S:
        ours = 0.0
    findings = []
    if ours:
        step = "set it right, then look again: certificates and tokens are judged by clocks"
        text = f"most nodes' clocks are {_off(ours)} this one"
        findings.append(warn("clock of this machine", text, step))
    wrong = []
    for each in nodes:
        off = known.get(each.node, ours) - ours
        if abs(off) > CLOCK_WARN_S:
            check, text = f"clock node {each.node}", f"{_name(each)}: {_off(off)} the others'"
            step = "run chrony or systemd-timesyncd there; tokens and certificates go by it"
            bad = abs(off) > CLOCK_FAIL_S
            wrong.append((fail if bad else warn)(check, text, step))
    return findings + _each("clocks", f"within {CLOCK_WARN_S:.0f} s of each other", wrong)


def _off(seconds: float) -> str:
    return f"{abs(seconds):.0f} s or more {'ahead of' if seconds > 0 else 'behind'}"


def readiness(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """Able to serve."""
    wrong = []
    for each, report in _told(nodes):
        failing = [name for name, check in report.checks.items() if not check.ok]
        check = f"readiness node {each.node}"
        if report.draining:
            step = f"when the work on it is over: quorumvault node undrain {each.node}"
            wrong.append(warn(check, f"{_name(each)} is drained", step))
        elif not report.ready:
            why = "; ".join(f"{name}: {report.checks[name].detail}" for name in failing)
            step = f"docs/runbooks/NodeNotReady.md; {ON_ITS_MACHINE}"
            wrong.append(fail(check, f"{_name(each)} is not ready: {why}", step))
    return _each("readiness", "all that answer are ready", wrong)


def versions(reports: Sequence[StatusReport]) -> list[Finding]:
    """One version, but for the time of an upgrade."""
    found = sorted({report.version for report in reports})
    if len(found) == 1:
        return [ok("versions", found[0])]
    step = "finish the upgrade (docs/upgrade.md), or take it back"
    named = ", ".join(
        f"{each} on {ranges(sorted(r.node for r in reports if r.version == each))}"
        for each in found
    )
    return [warn("versions", named, step)]


def revisions(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """All follow the newest cluster file."""
    newest = max(report.revision for _, report in _told(nodes))
    step = "quorumvault member sync --cluster DIR"
    wrong = [
        warn(
            f"cluster file node {each.node}",
            f"{_name(each)} follows revision {report.revision}, others {newest}",
            step,
        )
        for each, report in _told(nodes)
        if report.revision < newest
    ]
    return _each("cluster file", f"revision {newest} everywhere", wrong)


def links(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """Each node with each other; one that does not answer is named elsewhere."""
    names = {each.node: _name(each) for each in nodes if each.report is not None}
    wrong = []
    for each, report in _told(nodes):
        for peer in report.peers:
            if not peer.connected and peer.node in names:
                check = f"link node {each.node} to {peer.node}"
                why = peer.last_error or "not connected"
                step = "look at the network from the one to the peer port of the other"
                text = f"{_name(each)} does not reach {names[peer.node]}: {why}"
                wrong.append(fail(check, text, step))
    return _each("peer links", "each node that answers reaches each other", wrong)


def hashes(found: Overview) -> Finding:
    """The same state at the same index (I8)."""
    odd = [line.shard for line in found.shards if line.state_hash == "differs"]
    if odd:
        step = "docs/runbooks/StateHashMismatch.md; keep every disk as it is"
        return fail("state hashes", f"they differ in shard {ranges(odd)}", step)
    known = sum(line.state_hash == "agrees" for line in found.shards)
    return ok("state hashes", f"agree in {known} of {len(found.shards)} shards, none differs")


def leaders(nodes: Sequence[NodeFacts], found: Overview) -> list[Finding]:
    """Each shard is led, and from its own seat if that one is well."""
    findings = []
    orphans = [line.shard for line in found.shards if line.leader is None]
    if orphans:
        step = "docs/runbooks/NoLeader.md"
        findings.append(fail("leaders", f"nobody leads shard {ranges(orphans)}", step))
    seats = {NodeId(each.node): Seat(each.seat) for each in nodes}
    well = {each.node for each, report in _told(nodes) if report.ready and not report.draining}
    away = [
        line.shard
        for line in found.shards
        if line.leader is not None
        and (home := preferred_node(ShardId(line.shard), seats)) != line.leader
        and home in well
    ]
    if away:
        step = (
            "it mends itself in half a minute, or in ten if that seat could not win when it was "
            "asked; quorumvault leader transfer moves it at once"
        )
        text = f"led away from its own seat: shard {ranges(away)}"
        findings.append(warn("leaders", text, step))
    led = ", ".join(f"node {line.node}: {line.leads}" for line in found.nodes if line.reachable)
    return findings or [ok("leaders", f"spread over the nodes ({led})")]


def rooms(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """Space by the marks that the node itself goes by."""
    wrong = []
    for each, report in _told(nodes):
        if report.room != "enough":
            check = f"disk room node {each.node}"
            free = min(report.space.disk_free, report.space.map_total - report.space.map_used)
            text = f"{_name(each)} is {report.room}: {free >> 20} MiB free"
            step = "make room there; it comes back by itself (docs/runbooks/DiskFull.md)"
            wrong.append((fail if report.room == "full" else warn)(check, text, step))
    return _each("disk room", "enough everywhere", wrong)


def hsms(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """Each node's HSM works."""
    wrong = [
        fail(
            f"HSM node {each.node}",
            f"{_name(each)}: {report.hsm.reason or 'away'}",
            f"docs/runbooks/HSMDown.md; {ON_ITS_MACHINE}",
        )
        for each, report in _told(nodes)
        if not report.hsm.healthy
    ]
    return _each("HSMs", "all that answer have theirs", wrong)


def configurations(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """What a node runs with is what its files say, as far as it was told to look."""
    wrong = [
        warn(
            f"configuration node {each.node}",
            f"{_name(each)} refused to reload: {report.failed_reload}",
            f"correct it, then quorumvault node reload {each.node}",
        )
        for each, report in _told(nodes)
        if report.failed_reload
    ]
    return _each("configurations", "no reload was refused", wrong)


def alarms(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """What else the nodes say themselves."""
    wrong = []
    for each, report in _told(nodes):
        others = [line for line in report.alarms if not line.startswith(CONFIGURATION)]
        if others:
            check, text = f"alarms node {each.node}", f"{_name(each)}: {'; '.join(others)}"
            wrong.append(fail(check, text, "docs/alerts.md has a page for each"))
    return _each("alarms", "none", wrong)
