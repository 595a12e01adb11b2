"""What a node counts, in Prometheus' words. No label holds an id, an account or anything secret.

Counters of requests are bound once per (route, code): a request pays for two increments. What the
Raft host knows is read when somebody scrapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from node.health import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from cluster.api import HostStatus
    from node.health import Picture

BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
"""From one LAN round trip to beyond every deadline."""
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All metrics of one node, in a registry of its own."""

    def __init__(self) -> None:
        # A second series per counter that nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "quorumvault_requests",
            "Client requests, by route and problem code (ok when there was none).",
            ("route", "code"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "quorumvault_request_seconds",
            "Duration of client requests.",
            ("route",),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._shares = Counter(
            "quorumvault_shares",
            "Shares that this node was asked for, by kind and result.",
            ("kind", "result"),
            registry=self.registry,
        )
        self._charges = Counter(
            "quorumvault_charges",
            "Outcomes of the charges that this node proposed.",
            ("outcome",),
            registry=self.registry,
        )
        self.evaluations = Counter(
            "quorumvault_evaluations",
            "Evaluations combined here, by kind and whether four or more shares agreed.",
            ("kind", "verified"),
            registry=self.registry,
        )
        self.hedges = Counter(
            "quorumvault_share_hedges",
            "Times that the nearest peers were too slow and further ones were asked.",
            registry=self.registry,
        )
        self.wrong_shares = Counter(
            "quorumvault_wrong_shares",
            "Shares proven or voted wrong, by seat. Any at all is an alarm.",
            ("seat",),
            registry=self.registry,
        )
        self.disagreements = Counter(
            "quorumvault_share_disagreements",
            "Evaluations refused because shares disagreed and no liar could be named. An alarm.",
            registry=self.registry,
        )
        self.broken_seals = Counter(
            "quorumvault_broken_seals",
            "Sealed registrations that did not open. Any at all is an alarm.",
            registry=self.registry,
        )
        self.bad_service_frames = Counter(
            "quorumvault_bad_service_frames",
            "Service frames from peers that did not decode.",
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "quorumvault_requests_in_flight", "Client requests under way.", registry=self.registry
        )
        self.ready = Gauge("quorumvault_ready", "1 when able to serve.", registry=self.registry)
        self.hsm_up = Gauge("quorumvault_hsm_up", "1 when the HSM works.", registry=self.registry)
        self.disk_free = Gauge(
            "quorumvault_disk_free_bytes", "Free bytes of the store's disk.", registry=self.registry
        )
        self.map_used = Gauge(
            "quorumvault_store_used_bytes", "Bytes used in the store.", registry=self.registry
        )
        self._bound_requests: dict[tuple[str, str], Counter] = {}
        self._bound_seconds: dict[str, Histogram] = {}
        self._bound_shares: dict[tuple[str, str], Counter] = {}

    def request(self, route: str, code: str, seconds: float) -> None:
        """One finished request."""
        counter = self._bound_requests.get((route, code))
        if counter is None:
            counter = self._bound_requests[route, code] = self._requests.labels(route, code)
        counter.inc()
        histogram = self._bound_seconds.get(route)
        if histogram is None:
            histogram = self._bound_seconds[route] = self._seconds.labels(route)
        histogram.observe(seconds)

    def share(self, kind: str, result: str) -> None:
        """One share given or declined here."""
        counter = self._bound_shares.get((kind, result))
        if counter is None:
            counter = self._bound_shares[kind, result] = self._shares.labels(kind, result)
        counter.inc()

    def charge(self, outcome: str) -> None:
        """One outcome of a charge proposed here."""
        self._charges.labels(outcome).inc()

    def observe(self, picture: Picture, *, in_flight: int) -> None:
        """Take over what a picture of the node shows."""
        self.ready.set(all(check.ok for check in checks(picture)))
        self.hsm_up.set(picture.hsm)
        self.disk_free.set(picture.space.disk_free)
        self.map_used.set(picture.space.map_used)
        self.in_flight.set(in_flight)

    def watch_host(self, status: Callable[[], HostStatus]) -> None:
        """Read the Raft host at each scrape."""
        self.registry.register(HostCollector(status))

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)


class HostCollector(Collector):
    """The Raft host's status as metrics, taken when scraped."""

    def __init__(self, status: Callable[[], HostStatus]) -> None:
        self._status = status

    def describe(self) -> list[Metric]:
        """Nothing ahead of time: the host may not have started."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family per fact."""
        status = self._status()
        yield from _groups(status)
        yield from _peers(status)
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
        for name in status.counters.__struct_fields__:
            yield CounterMetricFamily(
                f"quorumvault_host_{name}",
                f"The Raft host's {name.replace('_', ' ')} since start.",
                float(getattr(status.counters, name)),
            )


def _groups(status: HostStatus) -> Iterator[Metric]:
    leads = GaugeMetricFamily(
        "quorumvault_raft_leader", "1 when this node leads the shard.", labels=["shard"]
    )
    facts = {
        fact: GaugeMetricFamily(f"quorumvault_raft_{fact}", f"Raft {fact}.", labels=["shard"])
        for fact in ("term", "commit", "applied", "first_index", "last_index", "records")
    }
    for group in status.groups:
        shard = [str(group.shard)]
        leads.add_metric(shard, float(group.role == "leader"))
        for fact, family in facts.items():
            family.add_metric(shard, float(getattr(group, fact)))
    yield leads
    yield from facts.values()


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
