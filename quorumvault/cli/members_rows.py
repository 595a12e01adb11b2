"""What ``cluster members`` shows, from the cluster file and the nodes' reports (pure)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from node.verdict_links import Silent

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cluster.cluster_file import ClusterFile
    from node.report import GroupLine, StatusReport


@dataclass(frozen=True)
class Member:
    """One seat and the node that has it."""

    seat: int
    node: int
    dc: str
    joined: int
    """The revision of the cluster file that brought it."""
    voter: list[int]
    """Shards in which it votes, as their leaders say."""
    learner: list[int]
    ledger: int | None
    """In how many shards its ledger is complete, by its own word."""
    revision: int | None
    """Of the cluster file that it follows; None: it does not answer."""


@dataclass(frozen=True)
class Gone:
    """A node that was replaced."""

    node: int
    seat: int
    revision: int
    """That took it out."""
    successor: int | None


@dataclass(frozen=True)
class Members:
    """The whole book."""

    name: str
    cluster_id: str
    revision: int
    shards: int
    threshold: int
    limit: int
    grace_s: int
    members: list[Member]
    gone: list[Gone]
    remarks: list[str]
    """What is not as the file says, with the next step."""

    def to_dict(self) -> dict[str, Any]:
        """For ``-o json``."""
        return asdict(self)


def judge(
    cluster: ClusterFile, known: Collection[int], reports: Mapping[int, StatusReport | Silent]
) -> Members:
    """Hold the file against what the nodes say; `known` are the connection file's nodes."""
    answering = {node: r for node, r in reports.items() if not isinstance(r, Silent)}
    groups = _leading(answering)
    rows = [
        Member(
            seat=entry.seat,
            node=entry.id,
            dc=entry.dc,
            joined=entry.joined,
            voter=[shard for shard, group in groups.items() if entry.id in group.voters],
            learner=[shard for shard, group in groups.items() if entry.id in group.learners],
            ledger=_complete(answering.get(entry.id)),
            revision=answering[entry.id].revision if entry.id in answering else None,
        )
        for entry in cluster.nodes
    ]
    return Members(
        name=cluster.name,
        cluster_id=str(cluster.cluster_id),
        revision=cluster.revision,
        shards=cluster.shards,
        threshold=cluster.threshold,
        limit=cluster.limit,
        grace_s=cluster.grace_s,
        members=rows,
        gone=[
            Gone(each.id, each.seat, each.retired, cluster.successor(each.id))
            for each in cluster.retired
        ],
        remarks=[*_remarks(cluster, rows, reports), *_of_connection(cluster, known)],
    )


def _leading(answering: Mapping[int, StatusReport]) -> dict[int, GroupLine]:
    """Every shard as its leader sees it, or whoever is furthest where none leads."""
    best: dict[int, GroupLine] = {}
    for report in answering.values():
        for group in report.groups:
            other = best.get(group.shard)
            if other is None or _weight(group) > _weight(other):
                best[group.shard] = group
    return dict(sorted(best.items()))


def _weight(group: GroupLine) -> tuple[bool, int, int]:
    return group.role == "leader", group.term, group.applied


def _complete(report: StatusReport | None) -> int | None:
    return None if report is None else sum(group.ledger_complete for group in report.groups)


def _remarks(
    cluster: ClusterFile, rows: list[Member], reports: Mapping[int, StatusReport | Silent]
) -> list[str]:
    said = []
    for row in rows:
        name = f"node {row.node} ({row.dc})"
        if row.revision is None:
            why = reports.get(row.node)
            reason = why.reason if isinstance(why, Silent) else "the connection file lacks it"
            said.append(f"{name} does not answer: {reason}")
        elif row.revision < cluster.revision:
            said.append(
                f"{name} follows revision {row.revision} of the file, others "
                f"{cluster.revision}: run 'quorumvault member sync --cluster DIR'"
            )
        missing = cluster.shards - len(row.voter)
        if missing:
            learns = f", a learner in {len(row.learner)}" if row.learner else ""
            said.append(f"{name} has no vote in {missing} of {cluster.shards} shards{learns}")
        if row.ledger is not None and row.ledger < cluster.shards:
            said.append(
                f"{name} has a complete ledger in {row.ledger} of {cluster.shards} shards only: "
                "it gives no shares in the others yet"
            )
    return said


def _of_connection(cluster: ClusterFile, known: Collection[int]) -> list[str]:
    members = {entry.id for entry in cluster.nodes}
    old = sorted(set(known) - members)
    if not old:
        return []
    numbers = ", ".join(map(str, old))
    return [
        (
            f"the connection file names node {numbers}, which is no member any more: take the new "
            "operator/connection.json of the cluster's directory"
        )
    ]


def text(found: Members) -> list[str]:
    """For people; at most 80 columns but for the remarks."""
    lines = [
        f"{found.name} ({found.cluster_id}): revision {found.revision}",
        (
            f"{found.shards} shards, {found.limit} guesses, {found.grace_s} s of grace, any "
            f"{found.threshold} seats evaluate"
        ),
        "",
        "seat  node  DC            votes in  learns in  ledgers  revision",
    ]
    for each in found.members:
        ledger = "-" if each.ledger is None else str(each.ledger)
        revision = "-" if each.revision is None else str(each.revision)
        lines.append(
            f"{each.seat:>4}  {each.node:>4}  {each.dc[:12]:12}  {len(each.voter):>8}  "
            f"{len(each.learner):>9}  {ledger:>7}  {revision:>8}"
        )
    for gone in found.gone:
        heir = "nobody" if gone.successor is None else f"node {gone.successor}"
        lines.append(
            f"      node {gone.node} had seat {gone.seat} until revision {gone.revision}; {heir} "
            "has it now"
        )
    if found.remarks:
        lines += ["", *(f"  - {remark}" for remark in found.remarks)]
    return lines
