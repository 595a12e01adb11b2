"""The Raft host's status as metrics, taken when somebody scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from cluster.api import HostStatus

FACTS: Final = {
    "term": "Raft term of the shard.",
    "commit": "Index of the last entry that a majority has.",
    "applied": "Index of the last entry applied here.",
    "first_index": "Index of the first entry that the log still has.",
    "last_index": "Index of the last entry of the log.",
    "records": "Records of the shard, in whatever state.",
}
NAMED: Final = {
    "lockouts": (
        "quorumvault_lockouts",
        "Records locked because their guesses ran out, as applied here: every node counts all.",
    ),
    "budget_violations": (
        "quorumvault_budget_violations",
        "Moves of the log that this node's complete ledger refused. Any at all is an alarm.",
    ),
}
"""The host's counters that have a name of their own."""


class HostCollector(Collector):
    """One family per fact of the host."""

    def __init__(self, status: Callable[[], HostStatus]) -> None:
        self._status = status

    def describe(self) -> list[Metric]:
        """Nothing ahead of time: the host may not have started."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Everything of one moment."""
        status = self._status()
        yield from _groups(status)
        yield from _leads(status)
        yield from _peers(status)
        yield from _counters(status)
        yield GaugeMetricFamily(
            "quorumvault_stepping",
            "1 when this node takes part in Raft: it was stamped and heard a majority.",
            float(status.stepping),
        )
        yield GaugeMetricFamily(
            "quorumvault_incarnation", "How often this node was started.", status.incarnation
        )
        yield GaugeMetricFamily(
            "quorumvault_state_hash_agreement",
            "0 when this node's state hash differs from its peers': an alarm.",
            float(status.hash_agreement),
        )
        yield GaugeMetricFamily(
            "quorumvault_host_alarms", "Alarms that the host remembers.", len(status.alarms)
        )
        yield GaugeMetricFamily(
            "quorumvault_proposals_open", "Commands with an open fate.", status.proposals
        )
        yield GaugeMetricFamily(
            "quorumvault_disk_batch_seconds",
            "Age of the batch on its way to disk.",
            status.batch_in_flight_ms / 1000,
        )


def _groups(status: HostStatus) -> Iterator[Metric]:
    facts = {
        fact: GaugeMetricFamily(f"quorumvault_raft_{fact}", text, labels=["shard"])
        for fact, text in FACTS.items()
    }
    states = GaugeMetricFamily(
        "quorumvault_records",
        "Records by state, as applied here; none: no registration is active.",
        labels=["shard", "state"],
    )
    fetching = GaugeMetricFamily(
        "quorumvault_raft_catching_up", "1 while a snapshot is being fetched.", labels=["shard"]
    )
    for group in status.groups:
        shard = str(group.shard)
        for fact, family in facts.items():
            family.add_metric([shard], float(getattr(group, fact)))
        for state, count in group.states.items():
            states.add_metric([shard, str(state)], count)
        fetching.add_metric([shard], float(group.catching_up))
    yield from facts.values()
    yield states
    yield fetching


def _leads(status: HostStatus) -> Iterator[Metric]:
    leads = GaugeMetricFamily(
        "quorumvault_raft_leader", "1 when this node leads the shard.", labels=["shard"]
    )
    known = GaugeMetricFamily(
        "quorumvault_raft_leader_known",
        "1 when this node knows who leads the shard.",
        labels=["shard"],
    )
    changes = CounterMetricFamily(
        "quorumvault_raft_leader_changes",
        "Leaders of the shard that this node has seen come since its start.",
        labels=["shard"],
    )
    lags = GaugeMetricFamily(
        "quorumvault_raft_lag_entries",
        "Entries that the peer is behind; only the shard's leader tells.",
        labels=["shard", "peer"],
    )
    for group in status.groups:
        shard = str(group.shard)
        leads.add_metric([shard], float(group.role == "leader"))
        known.add_metric([shard], float(bool(group.leader)))
        changes.add_metric([shard], group.leader_changes)
        for peer, lag in group.lags.items():
            lags.add_metric([shard, str(peer)], lag)
    yield from (leads, known, changes, lags)


def _peers(status: HostStatus) -> Iterator[Metric]:
    connected = GaugeMetricFamily(
        "quorumvault_peer_connected", "1 when the link is up.", labels=["peer"]
    )
    rtt = GaugeMetricFamily(
        "quorumvault_peer_rtt_seconds", "Round-trip time to the peer.", labels=["peer"]
    )
    for peer in status.peers:
        connected.add_metric([str(peer.node_id)], float(peer.connected))
        if peer.rtt_ms is not None:
            rtt.add_metric([str(peer.node_id)], peer.rtt_ms / 1000)
    yield connected
    yield rtt


def _counters(status: HostStatus) -> Iterator[Metric]:
    for field in status.counters.__struct_fields__:
        plain = f"quorumvault_host_{field}", f"The host's {field.replace('_', ' ')} since start."
        name, text = NAMED.get(field, plain)
        yield CounterMetricFamily(name, text, float(getattr(status.counters, field)))
