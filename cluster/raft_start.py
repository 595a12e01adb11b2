"""The Raft core of one node, with the cluster's constants and every shard as it was stored.

Pre-vote, check-quorum and batched appends are fixed in the crate; what may be tuned stands in
`limits` with its reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import limits
from engines._engines import MultiRaft

if TYPE_CHECKING:
    from cluster.boot import GroupState
    from cluster.types import NodeId


def raft_from(node_id: NodeId, groups: tuple[GroupState, ...]) -> MultiRaft:
    """All shards loaded; to be used from this thread alone."""
    raft = MultiRaft(
        node_id,
        heartbeat_tick=limits.HEARTBEAT_TICKS,
        election_tick=limits.ELECTION_TICKS,
        min_election_tick=limits.MIN_ELECTION_TICKS,
        max_election_tick=limits.MAX_ELECTION_TICKS,
        max_size_per_msg=limits.MAX_MESSAGE_BYTES,
        max_inflight=limits.MAX_INFLIGHT_MESSAGES,
        max_uncommitted=limits.MAX_UNCOMMITTED_BYTES,
        max_committed_per_ready=limits.MAX_COMMITTED_BYTES,
    )
    for group in groups:
        row = group.row
        raft.add_group(
            group.shard,
            term=row.term,
            vote=row.vote,
            commit=row.commit,
            applied=row.applied,
            truncated_index=row.truncated_index,
            truncated_term=row.truncated_term,
            voters=row.voters,
            learners=row.learners,
            entries=group.entries,
        )
    return raft
