"""How the cluster is, judged from what its nodes say of themselves (pure).

`quorumvault cluster status` and the console show the same judgement. It is meant for somebody who
must decide what may be switched off next, so what it counts on is what is certain: a node bears a
further loss only if it answers, votes, has its HSM, is to stay, knows who leads the shard, and
hears, and is heard by, that leader.
A data center that is cut off the mesh is a failure already used up, though its node still answers.
Agreement of state hashes is judged from what the nodes report at equal indexes, and by every node
for itself at run time (I8).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from node.verdict_links import Links, Place, Silent
from node.verdict_why import reasons

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from node.report import GroupLine, StatusReport

LEADER: Final = "leader"

Verdict = Literal["healthy", "degraded", "no-quorum"]
Agreement = Literal["agrees", "differs", "unknown"]
"""Unknown: no two nodes report the same index yet."""


@dataclass(frozen=True)
class ShardLine:
    """One Raft group as its leader sees it; `leader` is None when nobody leads."""

    shard: int
    leader: int | None
    term: int
    commit: int
    applied: int
    applied_min: int
    """The least of the nodes that answer."""
    state_hash: Agreement
    served: bool
    """Somebody leads, a majority hears him, and enough seats can give shares."""
    tolerated: int
    """How many more nodes may fail before it is not."""
    voters: list[int]


@dataclass(frozen=True)
class NodeLine:
    """One node: what it says of itself, or why it says nothing."""

    node: int
    seat: int
    dc: str
    reachable: bool
    ready: bool
    leads: int
    lag: int | None
    """Entries behind the leaders' commit, summed over the shards."""
    hsm: Literal["working", "away", "unknown"]
    state_hash: Agreement
    problem: str
    """Failed checks and alarms; or why it does not answer."""


@dataclass(frozen=True)
class Overview:
    """The whole cluster."""

    verdict: Verdict
    why: list[str]
    failures_tolerated: int
    nodes: list[NodeLine]
    shards: list[ShardLine]

    def to_dict(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


def judge(places: Sequence[Place], answers: Mapping[int, StatusReport | Silent]) -> Overview:
    """Put the answers of all nodes together; one that does not answer counts as lost."""
    answering = {n: each for n, each in answers.items() if not isinstance(each, Silent)}
    links = Links(answering)
    groups: dict[int, dict[int, GroupLine]] = {}
    for node, report in answering.items():
        for group in report.groups:
            groups.setdefault(group.shard, {})[node] = group
    threshold = len(places) // 2 + 1  # cluster_file.THRESHOLD_OF_SEATS
    shards = {
        shard: _shard_line(shard, groups[shard], answering, links, threshold)
        for shard in sorted(groups)
    }
    why = reasons(places, answers, list(shards.values()), links)
    verdict: Verdict = "degraded" if why else "healthy"
    if not any(line.served for line in shards.values()):
        verdict = "no-quorum"
    return Overview(
        verdict=verdict,
        why=why,
        failures_tolerated=min((line.tolerated for line in shards.values()), default=0),
        nodes=[_node_line(place, answers.get(place.node), shards) for place in places],
        shards=list(shards.values()),
    )


def _shard_line(
    shard: int,
    groups: Mapping[int, GroupLine],
    answering: Mapping[int, StatusReport],
    links: Links,
    threshold: int,
) -> ShardLine:
    leader = _leader(groups, links)
    best = groups.get(leader) if leader is not None else None
    seen = best or max(groups.values(), key=lambda group: group.commit)
    sound = {
        node
        for node in seen.voters
        if node in groups
        and _is_sound(answering[node])
        and leader is not None
        and groups[node].leader  # a claim to lead that nobody knows of is no leader
        and (node == leader or links.both_ways(node, leader))
    }
    seats = {answering[node].seat for node in sound if groups[node].ledger_complete}
    spare = min(len(sound) - (len(seen.voters) // 2 + 1), len(seats) - threshold)
    return ShardLine(
        shard=shard,
        leader=leader,
        term=seen.term,
        commit=seen.commit,
        applied=seen.applied,
        applied_min=min(group.applied for group in groups.values()),
        state_hash=_agreement([(g.hash_index, g.hash) for g in groups.values() if g.hash]),
        served=leader is not None and spare >= 0,
        tolerated=max(0, spare),
        voters=list(seen.voters),
    )


def _leader(groups: Mapping[int, GroupLine], links: Links) -> int | None:
    """Who leads: by its own word, or by that of all who follow it now where it does not answer.

    Two may claim it for a moment: the higher term is right.
    """
    claims = {node: group.term for node, group in groups.items() if group.role == LEADER}
    for node, group in groups.items():
        if group.leader not in groups and links.hears(node, group.leader):
            claims[group.leader] = max(claims.get(group.leader, 0), group.term)
    return max(claims, key=lambda node: claims[node], default=None)


def _is_sound(report: StatusReport) -> bool:
    """The node itself could bear the loss of another one."""
    return (
        report.hsm.healthy
        and report.hash_agreement == "agrees"
        and report.room != "full"
        and not report.leaving
        and all(report.checks[name].ok for name in ("raft", "caught-up") if name in report.checks)
    )


def _agreement(reports: Sequence[tuple[int, str]]) -> Agreement:
    """Compare hashes reported at equal indexes."""
    by_index: dict[int, list[str]] = {}
    for index, value in reports:
        by_index.setdefault(index, []).append(value)
    shared = [values for values in by_index.values() if len(values) > 1]
    if any(len(set(values)) > 1 for values in shared):
        return "differs"
    return "agrees" if shared else "unknown"


def _node_line(
    place: Place, answer: StatusReport | Silent | None, shards: Mapping[int, ShardLine]
) -> NodeLine:
    if answer is None or isinstance(answer, Silent):
        return NodeLine(
            place.node, place.seat, place.dc, reachable=False, ready=False, leads=0, lag=None,
            hsm="unknown", state_hash="unknown",
            problem="was not asked" if answer is None else answer.reason,
        )  # fmt: skip
    failed = [name for name, check in answer.checks.items() if not check.ok]
    return NodeLine(
        node=place.node,
        seat=place.seat,
        dc=place.dc,
        reachable=True,
        ready=answer.ready,
        leads=sum(line.leader == place.node for line in shards.values()),
        lag=sum(max(0, shards[each.shard].commit - each.applied) for each in answer.groups),
        hsm="working" if answer.hsm.healthy else "away",
        state_hash=answer.hash_agreement,
        problem=", ".join([*failed, *answer.alarms]),
    )
