"""What the nodes say of themselves, put together into what an operator asks (pure).

``cluster status`` shows it. Agreement of state hashes is judged here from what the nodes report at
equal indexes, and by every node at run time (I8).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from quorumvault.cli.admin import Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

LEADER = "leader"


@dataclass(frozen=True)
class ShardLine:
    """One Raft group as its leader sees it; `leader` is None when nobody leads."""

    shard: int
    leader: str | None
    term: int
    commit: int
    applied: int
    state_hash: str  # "agrees", "differs" or "unknown" (no two nodes report the same index yet)


@dataclass(frozen=True)
class NodeLine:
    """One node: what it says of itself, or why it says nothing."""

    node: str
    seat: int
    dc: str
    reachable: bool
    ready: bool
    leads: int
    lag: int | None  # entries behind the leaders' commit, summed over the shards
    hsm: str  # "working", "away" or "unknown"
    state_hash: str
    problem: str


@dataclass(frozen=True)
class Overview:
    """The whole cluster; `verdict` is healthy, degraded or no-quorum."""

    verdict: str
    why: list[str]
    failures_tolerated: int
    nodes: list[NodeLine]
    shards: list[ShardLine]

    def to_dict(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


def _groups(status: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    return {group["shard"]: group for group in status.get("groups", [])}


def _hash_verdict(reports: list[tuple[int, str]]) -> str:
    """Compare hashes reported at equal (index); unknown when no index is reported twice."""
    by_index: dict[int, list[str]] = {}
    for index, value in reports:
        by_index.setdefault(index, []).append(value)
    shared = [values for values in by_index.values() if len(values) > 1]
    if any(len(set(values)) > 1 for values in shared):
        return "differs"
    return "agrees" if shared else "unknown"


def _shard_line(shard: int, groups: Mapping[str, Mapping[str, Any]]) -> ShardLine:
    leaders = {node: group for node, group in groups.items() if group["role"] == LEADER}
    # Two may claim it for a moment: the higher term is right.
    leader = max(leaders, key=lambda node: leaders[node]["term"], default=None)
    best = leaders[leader] if leader is not None else None
    seen = best or max(groups.values(), key=lambda group: group["commit"], default=None)
    hashes = [
        (int(group["hash_index"]), str(group["hash"]))
        for group in groups.values()
        if group.get("hash")
    ]
    return ShardLine(
        shard=shard,
        leader=leader,
        term=seen["term"] if seen else 0,
        commit=seen["commit"] if seen else 0,
        applied=seen["applied"] if seen else 0,
        state_hash=_hash_verdict(hashes),
    )


def _node_line(
    node: str,
    place: Mapping[str, Any],
    status: Mapping[str, Any] | Unreachable,
    shards: Mapping[int, ShardLine],
) -> NodeLine:
    if isinstance(status, Unreachable):
        return NodeLine(
            node, place["seat"], place["dc"], reachable=False, ready=False, leads=0, lag=None,
            hsm="unknown", state_hash="unknown", problem=status.reason,
        )  # fmt: skip
    groups = _groups(status)
    failed = [name for name, check in status.get("checks", {}).items() if not check["ok"]]
    lag = sum(max(0, shards[s].commit - g["applied"]) for s, g in groups.items() if s in shards)
    return NodeLine(
        node=node,
        seat=place["seat"],
        dc=place["dc"],
        reachable=True,
        ready=bool(status["ready"]),
        leads=sum(line.leader == node for line in shards.values()),
        lag=lag,
        hsm="working" if status["hsm"]["healthy"] else "away",
        state_hash=str(status.get("hash_agreement", "unknown")),
        problem=", ".join(failed + [str(alarm) for alarm in status.get("alarms", [])]),
    )


def overview(
    nodes: Mapping[str, Mapping[str, Any]],
    statuses: Mapping[str, Mapping[str, Any] | Unreachable],
) -> Overview:
    """Put the answers of all nodes together; an unreachable node counts as lost."""
    answering = {n: s for n, s in statuses.items() if not isinstance(s, Unreachable)}
    numbers = sorted({shard for status in answering.values() for shard in _groups(status)})
    shards = {
        shard: _shard_line(
            shard, {n: _groups(s)[shard] for n, s in answering.items() if shard in _groups(s)}
        )
        for shard in numbers
    }
    lines = [_node_line(node, place, statuses[node], shards) for node, place in nodes.items()]
    majority = len(nodes) // 2 + 1
    reachable = sum(line.reachable for line in lines)
    working = sum(line.hsm == "working" for line in lines)
    leaderless = [str(line.shard) for line in shards.values() if line.leader is None]
    why = [f"node {line.node} ({line.dc}) does not answer" for line in lines if not line.reachable]
    why += [f"node {line.node} ({line.dc}): HSM away" for line in lines if line.hsm == "away"]
    why += [
        f"node {line.node} ({line.dc}) is not ready: {line.problem or 'no reason given'}"
        for line in lines
        if line.reachable and not line.ready
    ]
    if leaderless:
        why.append(f"no leader for shard {', '.join(leaderless)}")
    odd = [str(line.shard) for line in shards.values() if line.state_hash == "differs"]
    if odd:
        why.append(f"state hashes differ in shard {', '.join(odd)}")
    if (
        reachable < majority
        or working < majority
        or (leaderless and len(leaderless) == len(shards))
    ):
        verdict = "no-quorum"
    else:
        verdict = "degraded" if why else "healthy"
    return Overview(
        verdict=verdict,
        why=why,
        failures_tolerated=0 if verdict == "no-quorum" else min(reachable, working) - majority,
        nodes=lines,
        shards=list(shards.values()),
    )
