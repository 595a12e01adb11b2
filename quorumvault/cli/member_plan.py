"""What replacing a node does to the quorum, from what the nodes say of themselves (pure).

The leaders remove the old node first and add the new one then, so that no two voters ever share a
seat. In between there is one voter less: whether the rest can bear that is asked here before
anything is written, and by every leader again before it proposes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cluster.cluster_file import ClusterFile


@dataclass(frozen=True)
class Shard:
    """One Raft group, as its leader says, or as the node that is furthest where none leads."""

    voters: frozenset[int]
    learners: frozenset[int]
    leader: int | None
    complete: frozenset[int]
    """Nodes that say that their ledger of this shard is complete."""


@dataclass(frozen=True)
class Step:
    """One state on the way, the same for every shard."""

    what: str
    voters: list[int]
    quorum: int
    up: list[int]
    may_fail: int
    """How many more voters may fail without losing the quorum; negative: it is lost."""

    def to_dict(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


@dataclass(frozen=True)
class Progress:
    """In how many shards each part of a replacement is done."""

    shards: int
    out: int
    learner: int
    voter: int
    ledger: int

    @property
    def done(self) -> bool:
        """The old node is no voter, the new one is, with a complete ledger, in every shard."""
        return self.shards > 0 and self.out == self.voter == self.ledger == self.shards


def shards_of(statuses: Mapping[int, Mapping[str, Any]]) -> dict[int, Shard]:
    """Every shard that somebody reports."""
    reports: dict[int, dict[int, Mapping[str, Any]]] = {}
    for node, status in statuses.items():
        for group in status["groups"]:
            reports.setdefault(group["shard"], {})[node] = group
    found: dict[int, Shard] = {}
    for shard, groups in sorted(reports.items()):
        leaders = [node for node, group in groups.items() if group["role"] == "leader"]
        leader = max(leaders, key=lambda node: groups[node]["term"], default=None)
        if leader is None:
            best = max(groups.values(), key=lambda group: (group["applied"], group["term"]))
        else:
            best = groups[leader]
        found[shard] = Shard(
            voters=frozenset(best["voters"]),
            learners=frozenset(best["learners"]),
            leader=leader,
            complete=frozenset(node for node, group in groups.items() if group["ledger_complete"]),
        )
    return found


def up(statuses: Mapping[int, Mapping[str, Any]]) -> frozenset[int]:
    """Nodes that answer and whose HSM works: without it a node can neither vote nor persist."""
    return frozenset(node for node, status in statuses.items() if status["hsm"]["healthy"])


def quorum_of(voters: Collection[int]) -> int:
    """More than half."""
    return len(voters) // 2 + 1


def steps(voters: Collection[int], old: int, new: int, alive: Collection[int]) -> list[Step]:
    """The states of a shard with these voters from now until `new` has the seat of `old`."""

    def step(what: str, members: Collection[int], answering: Collection[int]) -> Step:
        quorum = quorum_of(members)
        there = sorted(set(members) & set(answering))
        return Step(what, sorted(members), quorum, there, len(there) - quorum)

    without = set(voters) - {old}
    return [
        step("now", voters, alive),
        step(f"node {old} is removed", without, alive),
        step(f"node {new} joins and catches up, without a vote", without, alive),
        step(f"node {new} is a voter", without | {new}, {*alive, new}),
    ]


def cost(
    cluster: ClusterFile, shards: Mapping[int, Shard], old: int, alive: Collection[int]
) -> str | None:
    """Why `old` must not be removed now, or None."""
    if len(shards) < cluster.shards:
        return "no node answers: nothing is known of the quorum; start the nodes, or try later"
    for number, shard in shards.items():
        left = shard.voters - {old}
        there = left & set(alive)
        if len(there) < quorum_of(left):
            missing = ", ".join(str(node) for node in sorted(left - there))
            return (
                f"without node {old}, {len(there)} of {len(left)} voters of shard {number} would "
                f"be up and {quorum_of(left)} are needed: bring back node {missing} first"
            )
        givers = (shard.complete & set(alive)) - {old}
        if len(givers) < cluster.threshold:
            return (
                f"without node {old}, {len(givers)} nodes with a complete ledger of shard {number}"
                f" would be up, and {cluster.threshold} are needed to evaluate a guess and to make"
                " the new node's ledger: bring back the others first"
            )
    without = leaderless(shards)
    if without:
        return f"shard {without[0]} has no leader now: nothing can change; try again in a moment"
    return None


def leaderless(shards: Mapping[int, Shard]) -> list[int]:
    """Shards that nobody leads: for a moment after a leader died."""
    return [number for number, shard in shards.items() if shard.leader is None]


def unfinished(cluster: ClusterFile, shards: Mapping[int, Shard]) -> str | None:
    """Which earlier replacement is still under way, or None.

    Only a node with a complete ledger is made a voter, so the voters tell.
    """
    members = {entry.id for entry in cluster.nodes}
    late = [number for number, shard in shards.items() if shard.voters != members or shard.learners]
    if not late:
        return None
    newest = next((each for each in cluster.retired if each.retired == cluster.revision), None)
    who = "an earlier change" if newest is None else f"the replacement of node {newest.id}"
    return f"{who} is not finished in {len(late)} of {len(shards)} shards"


def progress(cluster: ClusterFile, shards: Mapping[int, Shard], old: int, new: int) -> Progress:
    """How far the replacement of `old` by `new` is."""
    each = list(shards.values()) if len(shards) == cluster.shards else []
    return Progress(
        shards=len(each),
        out=sum(old not in shard.voters | shard.learners for shard in each),
        learner=sum(new in shard.learners for shard in each),
        voter=sum(new in shard.voters for shard in each),
        ledger=sum(new in shard.complete for shard in each),
    )
