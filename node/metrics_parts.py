"""What the HSM, the links and the certificates tell, as metrics, taken when somebody scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from hsm.requests import Operation, OperationStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from cluster.links import LinkReport
    from hsm.requests import HsmStats
    from node.certificates_left import Held
    from node.listener import ListenerReport

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)


class HsmCollector(Collector):
    """Requests to the HSM, and the sessions that were opened and lost."""

    def __init__(self, stats: Callable[[], HsmStats]) -> None:
        self._stats = stats

    def describe(self) -> list[Metric]:
        """Nothing ahead of time."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family per counter."""
        stats = self._stats()
        seconds = SummaryMetricFamily(
            "quorumvault_hsm_request_seconds",
            "Time from asking the HSM to its answer, waiting included.",
            labels=["operation"],
        )
        errors = CounterMetricFamily(
            "quorumvault_hsm_errors", "Requests that the HSM failed.", labels=["operation"]
        )
        for name in OPERATIONS:
            one = stats.operations.get(name, OperationStats())
            seconds.add_metric([name], count_value=one.done + one.failed, sum_value=one.seconds)
            errors.add_metric([name], one.failed)
        yield seconds
        yield errors
        yield GaugeMetricFamily(
            "quorumvault_hsm_waiting", "Requests that wait for the HSM.", stats.waiting
        )
        yield CounterMetricFamily(
            "quorumvault_hsm_busy", "Requests refused because too many waited.", stats.busy
        )
        yield CounterMetricFamily(
            "quorumvault_hsm_sessions_lost", "How often the HSM went away.", stats.lost
        )
        yield CounterMetricFamily(
            "quorumvault_hsm_sessions_reopened", "How often it came back.", stats.reopened
        )


class LinkCollector(Collector):
    """Bytes, frames and failures of the links, by peer."""

    def __init__(self, report: Callable[[], tuple[LinkReport, ...]]) -> None:
        self._report = report

    def describe(self) -> list[Metric]:
        """Nothing ahead of time."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family per counter."""
        links = self._report()
        facts: dict[str, tuple[str, Callable[[LinkReport], int]]] = {
            "sent_bytes": ("Bytes sent to the peer.", lambda link: link.bytes),
            "received_bytes": ("Bytes received from the peer.", lambda link: link.received_bytes),
            "sent_frames": ("Frames sent to the peer.", lambda link: link.frames),
            "dropped_frames": (
                "Frames dropped because the link's buffer was full.",
                lambda link: link.drops,
            ),
            "connects": ("Times that the link to the peer came up.", lambda link: link.connects),
            "errors": ("Links lost and dials that failed.", lambda link: link.failures),
        }
        for name, (text, fact) in facts.items():
            family = CounterMetricFamily(f"quorumvault_peer_{name}", text, labels=["peer"])
            for link in links:
                family.add_metric([str(link.peer)], fact(link))
            yield family
        backlog = GaugeMetricFamily(
            "quorumvault_peer_backlog_bytes", "Bytes that wait to be sent.", labels=["peer"]
        )
        for link in links:
            backlog.add_metric([str(link.peer)], link.backlog_bytes)
        yield backlog


class ListenerCollector(Collector):
    """Connections from outside, by listener."""

    def __init__(self, report: Callable[[], tuple[ListenerReport, ...]]) -> None:
        self._report = report

    def describe(self) -> list[Metric]:
        """Nothing ahead of time."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Two gauges and a counter."""
        connections = GaugeMetricFamily(
            "quorumvault_connections",
            "Connections that are open, from their accept on.",
            labels=["listener"],
        )
        limits = GaugeMetricFamily(
            "quorumvault_connections_limit",
            "How many the listener takes.",
            labels=["listener"],
        )
        cuts = CounterMetricFamily(
            "quorumvault_connections_cut",
            "Connections closed by the node: no handshake or no request came in time, room was "
            "made for a newer one, or there was none.",
            labels=["listener", "reason"],
        )
        for each in self._report():
            connections.add_metric([each.name], each.open)
            limits.add_metric([each.name], each.most)
            for why, count in each.cuts.items():
                cuts.add_metric([each.name, why], count)
        yield connections
        yield limits
        yield cuts


class CertificateCollector(Collector):
    """When the certificates in use end."""

    def __init__(self, held: Callable[[], Iterable[Held]]) -> None:
        self._held = held

    def describe(self) -> list[Metric]:
        """Nothing ahead of time."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One gauge; of several authorities the first to end."""
        family = GaugeMetricFamily(
            "quorumvault_tls_not_after_timestamp_seconds",
            "When the certificate in use ends, as Unix time.",
            labels=["certificate"],
        )
        ends: dict[str, float] = {}
        for each in self._held():
            when = each.not_after.timestamp()
            ends[each.name] = min(when, ends.get(each.name, when))
        for name, when in ends.items():
            family.add_metric([name], when)
        yield family
