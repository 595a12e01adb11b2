"""Raft and the disk under it."""

from __future__ import annotations

from typing import Any

from panels import GREEN, MUST_BE_0, RED, Panel, dashboard, stat, states
from queries import here, quantile, rate, rate_here


def page() -> dict[str, Any]:
    """The page."""
    return dashboard(
        "quorumvault-replication",
        "Quorumvault: replication and disk",
        "What is committed, who lags, and what the disks can do.",
        [
            [
                Panel(
                    "Entries applied",
                    "An entry holds all commands of a turn. All nodes apply the same ones.",
                    ((rate_here("quorumvault_host_entries_applied_total"), "node {{node}}"),),
                    unit="ops",
                ),
                Panel(
                    "Commands by result",
                    "Proposed at all nodes. refused: never appended; unknown: nobody knows if it was.",
                    ((rate("quorumvault_proposals_total", "result"), "{{result}}"),),
                    unit="ops",
                ),
                Panel(
                    "Commands with an open fate",
                    "Proposed and neither applied nor refused yet.",
                    ((here("quorumvault_proposals_open"), "node {{node}}"),),
                ),
            ],
            [
                Panel(
                    "Lag behind the leaders",
                    "Entries that a node is behind, in the shard where it is worst; leaders tell. ReplicaLags is a ticket above 5,000.",
                    (("max by (peer) (quorumvault_raft_lag_entries)", "node {{peer}}"),),
                    steps=((None, GREEN), (5000, RED)),
                ),
                Panel(
                    "Committed and not applied here",
                    "Entries, summed over the shards; a moment's work when all is well.",
                    (
                        (
                            f"sum by (node) ({here('quorumvault_raft_commit')} - {here('quorumvault_raft_applied')})",
                            "node {{node}}",
                        ),
                    ),
                ),
                Panel(
                    "Length of the logs",
                    "Entries that are kept, summed over the shards; cut after snapshots.",
                    (
                        (
                            f"sum by (node) ({here('quorumvault_raft_last_index')} - {here('quorumvault_raft_first_index')} + 1)",
                            "node {{node}}",
                        ),
                    ),
                ),
            ],
            [
                Panel(
                    "New leaders in 15 minutes",
                    "One for a shard is normal after a restart. LeaderFlapping is a ticket above five.",
                    (
                        (
                            "max by (shard) (increase(quorumvault_raft_leader_changes_total[15m]))",
                            "shard {{shard}}",
                        ),
                    ),
                    steps=((None, GREEN), (5, RED)),
                ),
                Panel(
                    "Term",
                    "Goes up with every election.",
                    (("max by (shard) (quorumvault_raft_term)", "shard {{shard}}"),),
                    least=None,
                ),
                Panel(
                    "Snapshots",
                    "Built for others, installed here, failed; and shards that fetch one now.",
                    (
                        (rate_here("quorumvault_host_snapshots_built_total"), "built {{node}}"),
                        (
                            rate_here("quorumvault_host_snapshots_installed_total"),
                            "installed {{node}}",
                        ),
                        (rate_here("quorumvault_host_snapshots_failed_total"), "failed {{node}}"),
                        (
                            f"sum by (node) ({here('quorumvault_raft_catching_up')})",
                            "fetching {{node}}",
                        ),
                    ),
                ),
            ],
            [
                Panel(
                    "Durable write, p99",
                    "Time to write a batch and fsync it. DiskSlow is a ticket above 0.5 s.",
                    (
                        (
                            here("instance:quorumvault_disk_commit_seconds:p99_rate5m"),
                            "node {{node}}",
                        ),
                    ),
                    unit="s",
                    steps=((None, GREEN), (0.5, RED)),
                ),
                Panel(
                    "Durable write, median",
                    "Half of the batches took no longer.",
                    (
                        (
                            quantile(
                                0.5, "quorumvault_disk_commit_seconds", "node", 'node=~"$node"'
                            ),
                            "node {{node}}",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    "Writes in a batch",
                    "On average; more under load, which is what batches are for.",
                    (
                        (
                            f"{rate_here('quorumvault_disk_commit_writes_sum')} / {rate_here('quorumvault_disk_commit_writes_count')}",
                            "node {{node}}",
                        ),
                    ),
                ),
            ],
            [
                Panel(
                    "Free disk",
                    "Of the store's disk, in bytes; a node steps aside before it is full (DiskFull).",
                    ((here("quorumvault_disk_free_bytes"), "node {{node}}"),),
                    unit="bytes",
                ),
                Panel(
                    "Store used",
                    "Of what the store may grow to.",
                    (
                        (
                            f"{here('quorumvault_store_used_bytes')} / {here('quorumvault_store_size_bytes')}",
                            "node {{node}}",
                        ),
                    ),
                    unit="percentunit",
                    steps=((None, GREEN), (0.9, RED)),
                ),
                Panel(
                    "Batch on its way",
                    "Age of the batch that is being written; over 2 s the disk counts as slow.",
                    ((here("quorumvault_disk_batch_seconds"), "node {{node}}"),),
                    unit="s",
                    steps=((None, GREEN), (2, RED)),
                ),
            ],
            [
                states(
                    "Room enough",
                    "Red: short of room or full; the node leads nothing.",
                    'quorumvault_disk_room{room="enough",node=~"$node"}',
                    "{{node}} {{dc}}",
                ),
                states(
                    "Same state as its peers",
                    "Red: the state hash differs at the same index. StateHashMismatch pages.",
                    here("quorumvault_state_hash_agreement"),
                    "{{node}} {{dc}}",
                ),
                stat(
                    "Refused by ledgers",
                    "Moves of the log that a node's own ledger refused. Must be 0: BudgetViolation pages.",
                    "sum(quorumvault_budget_violations_total)",
                    MUST_BE_0,
                ),
            ],
        ],
    )
