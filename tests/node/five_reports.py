"""Reports of five healthy nodes, and the ways in which they change when something is wrong."""

from __future__ import annotations

import msgspec

from node.report import (
    CheckReport,
    GroupLine,
    HsmReport,
    LimitsReport,
    PeerLine,
    SpaceReport,
    StatusReport,
)
from node.verdict_links import Place

DCS = {1: "frankfurt", 2: "amsterdam", 3: "paris", 4: "dublin", 5: "stockholm"}
PLACES = tuple(Place(node, node, dc) for node, dc in DCS.items())
CHECKS = (
    "serving",
    "hsm",
    "raft",
    "quorum",
    "caught-up",
    "share-givers",
    "disk",
    "state-hash",
)


def group(node: int, shard: int, leader: int) -> GroupLine:
    return GroupLine(
        shard=shard,
        role="leader" if node == leader else "follower",
        leader=leader,
        term=7,
        commit=100,
        applied=100,
        last_index=100,
        records=3,
        hash_index=64,
        hash="ab" * 32,
        voters=tuple(DCS),
        learners=(),
        revision=0,
        ledger_complete=True,
        lags={other: 0 for other in DCS if other != node} if node == leader else {},
    )


def peer(node: int) -> PeerLine:
    return PeerLine(
        node=node,
        seat=node,
        connected=True,
        rtt_ms=12.5,
        last_contact_ms=200.0,
        hsm=True,
        share_giver=True,
        dc=DCS[node],
        last_error="",
    )


def report(node: int) -> StatusReport:
    """Node 1 leads shard 0, node 2 shard 1, node 3 shard 2."""
    return StatusReport(
        node=node,
        seat=node,
        dc=DCS[node],
        cluster_id="00000000-0000-0000-0000-000000000007",
        version="0.1.0",
        revision=0,
        ready=True,
        checks={name: CheckReport(ok=True, detail="ok") for name in CHECKS},
        incarnation=1,
        hsm=HsmReport(healthy=True, reason=""),
        draining=False,
        groups=[group(node, shard, shard + 1) for shard in range(3)],
        peers=[peer(other) for other in DCS if other != node],
        hash_agreement="agrees",
        space=SpaceReport(1, 100, 50, 100),
        alarms=[],
        uptime_s=60.0,
        certificates=[],
        fsync_p99_ms=1.5,
        loop_lag_ms=0.0,
        log_level="info",
        limits=LimitsReport(1024, 600, 8192),
        room="enough",
    )


def five() -> dict[int, StatusReport]:
    return {node: report(node) for node in DCS}


def changed(told: StatusReport, **fields) -> StatusReport:
    return msgspec.structs.replace(told, **fields)


def failing(told: StatusReport, check: str, detail: str) -> StatusReport:
    checks = told.checks | {check: CheckReport(ok=False, detail=detail)}
    return changed(told, checks=checks, ready=False)


def with_groups(told: StatusReport, **fields) -> StatusReport:
    return changed(told, groups=[changed(each, **fields) for each in told.groups])


def with_peers(told: StatusReport, others, **fields) -> StatusReport:
    return changed(
        told,
        peers=[changed(each, **fields) if each.node in others else each for each in told.peers],
    )


def cut(told: dict, sender: int, receiver: int) -> None:
    """Frames of `sender` do not reach `receiver` any more, and both have noticed."""
    told[sender] = with_peers(told[sender], {receiver}, connected=False, last_error="no answer")
    told[receiver] = with_peers(told[receiver], {sender}, last_contact_ms=9_000.0)


def cut_off(told: dict, *nodes: int) -> None:
    """These are cut off all others, both ways; each other one leads what they led."""
    for node in nodes:
        for other in set(told) - set(nodes):
            cut(told, node, other)
            cut(told, other, node)
        told[node] = with_groups(told[node], role="follower", leader=0)


def led_by(told: dict, leader: int, shards=(0, 1, 2), term: int = 8) -> None:
    """Everybody whom `leader` hears follows it in these shards."""
    heard = {each.node for each in told[leader].peers if each.connected} | {leader}
    for node in heard & set(told):
        told[node] = changed(
            told[node],
            groups=[
                changed(
                    each,
                    role="leader" if node == leader else "follower",
                    leader=leader,
                    term=term,
                )
                if each.shard in shards
                else each
                for each in told[node].groups
            ],
        )
