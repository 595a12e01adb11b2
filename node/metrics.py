"""What a node counts, in Prometheus' words. No label holds an account, a record id or a secret.

What is counted on the way of a request is bound to its labels once, so that it costs an increment;
what can be named ahead of time starts at 0, so that the first increase is seen as one. What the
host, the HSM and the links know themselves is read when somebody scrapes: `metrics_raft` and
`metrics_parts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from cluster.api import Applied, NotAppended, Unknown
from cluster.commands import Status
from cluster.room import Room
from node.health import checks
from node.share_messages import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.registry import Collector
    from prometheus_client.samples import Sample

    from cluster.api import ProposalResult
    from node.health import Check, Picture

BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
"""From one LAN round trip to beyond every deadline."""
COMMIT_BUCKETS_S: Final = (
    *(0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512),
    *(1.0, 2.0, 5.0, 10.0, 30.0),
)
"""From a good NVMe to the 2 s of "slow" and the 30 s after which the node ends."""
WRITES_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 4096)
LATE_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""A tick is 50 ms, an election begins after 1 s."""
CHARGE_OUTCOMES: Final = (
    Status.DONE,
    Status.REPLAYED,
    Status.SUPERSEDED,
    Status.STALE,
    Status.NOT_REGISTERED,
    Status.LOCKED,
    Status.EXHAUSTED,
)
SHARE_RESULTS: Final = ("given", *(str(reason) for reason in Reason))
KINDS: Final = ("attempt", "registration")
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All metrics of one node, in a registry of its own."""

    def __init__(self, *, version: str, seats: Iterable[int]) -> None:
        # A second series per counter that nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._count_requests()
        self._count_shares(seats)
        self._gauge_state()
        self._time_the_disk()
        build = Gauge(
            "quorumvault_build_info",
            "1; the version that runs.",
            ("version",),
            registry=self.registry,
        )
        build.labels(version).set(1)

    def _count_requests(self) -> None:
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
        self._bound_requests: dict[tuple[str, str], Counter] = {}
        self._bound_seconds: dict[str, Histogram] = {}
        proposals = Counter(
            "quorumvault_proposals",
            "Commands that this node proposed, by what came of them.",
            ("result",),
            registry=self.registry,
        )
        self._applied, self._refused, self._unknown = (
            proposals.labels(result) for result in ("applied", "refused", "unknown")
        )
        self.in_flight = Gauge(
            "quorumvault_requests_in_flight", "Client requests under way.", registry=self.registry
        )

    def _count_shares(self, seats: Iterable[int]) -> None:
        shares = Counter(
            "quorumvault_shares",
            "Shares that this node was asked for, by kind and result.",
            ("kind", "result"),
            registry=self.registry,
        )
        self._shares = {
            (kind, result): shares.labels(kind, result)
            for kind in KINDS
            for result in SHARE_RESULTS
        }
        charges = Counter(
            "quorumvault_charges",
            "Outcomes of the charges that this node proposed.",
            ("outcome",),
            registry=self.registry,
        )
        self._charged = charges
        self._charges = {outcome: charges.labels(str(outcome)) for outcome in CHARGE_OUTCOMES}
        evaluations = Counter(
            "quorumvault_evaluations",
            "Evaluations combined here, by kind and whether four or more shares agreed.",
            ("kind", "verified"),
            registry=self.registry,
        )
        self._evaluations = {
            (kind, verified): evaluations.labels(kind, str(verified).lower())
            for kind in KINDS
            for verified in (False, True)
        }
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
        for seat in seats:
            self.wrong_shares.labels(str(seat))
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

    def _gauge_state(self) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"quorumvault_{name}", text, labels, registry=self.registry)

        self.ready = gauge("ready", "1 when able to serve.")
        self._check = gauge("check", "1 when this check of /readyz passes.", "check")
        self.hsm_up = gauge("hsm_up", "1 when the HSM works.")
        self._draining = gauge("draining", "1 when this node takes no new requests.")
        self._givers = gauge(
            "share_givers", "Seats that can give shares, of the shard with the fewest."
        )
        self._threshold = gauge("share_threshold", "Seats that an evaluation needs.")
        self.disk_free = gauge("disk_free_bytes", "Free bytes of the store's disk.")
        self._disk_size = gauge("disk_size_bytes", "Size of the store's disk.")
        self.map_used = gauge("store_used_bytes", "Bytes used in the store.")
        self._map_size = gauge("store_size_bytes", "Bytes that the store may grow to.")
        self._room = gauge(
            "disk_room", "1 for what the disk has left: enough, short or full.", "room"
        )
        self.configuration_refused = gauge(
            "configuration_refused", "1 when the last reload was refused: the old one is in use."
        )
        self._slow = gauge("disk_slow", "1 while a batch takes over 2 s, and for 10 s after.")

    def _time_the_disk(self) -> None:
        self._commit_seconds = Histogram(
            "quorumvault_disk_commit_seconds",
            "Time to write a batch and have it durable (fsync).",
            buckets=COMMIT_BUCKETS_S,
            registry=self.registry,
        )
        self._commit_writes = Histogram(
            "quorumvault_disk_commit_writes",
            "Writes in a batch.",
            buckets=WRITES_BUCKETS,
            registry=self.registry,
        )
        self._late = Histogram(
            "quorumvault_loop_late_seconds",
            "How late the event loop ran each tick of 50 ms.",
            buckets=LATE_BUCKETS_S,
            registry=self.registry,
        )

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
        """One share given or declined here: a kind of KINDS, a result of SHARE_RESULTS."""
        self._shares[kind, result].inc()

    def charge(self, outcome: Status) -> None:
        """One outcome of a charge proposed here."""
        self._charges[outcome].inc()

    def evaluation(self, kind: str, *, verified: bool) -> None:
        """One evaluation combined here; verified when four or more shares agreed."""
        self._evaluations[kind, verified].inc()

    def proposal(self, result: ProposalResult) -> None:
        """What came of one command proposed here."""
        match result:
            case Applied():
                self._applied.inc()
            case NotAppended():
                self._refused.inc()
            case Unknown():
                self._unknown.inc()
            case _:
                assert_never(result)

    def commit(self, seconds: float, writes: int) -> None:
        """One batch is durable."""
        self._commit_seconds.observe(seconds)
        self._commit_writes.observe(writes)

    def late(self, seconds: float) -> None:
        """One tick of the loop, this much late."""
        self._late.observe(seconds)

    def observe(self, picture: Picture, *, in_flight: int) -> None:
        """Take over what a picture of the node shows."""
        status, space = picture.status, picture.space
        found: tuple[Check, ...] = checks(picture)
        self.ready.set(all(check.ok for check in found))
        for check in found:
            self._check.labels(check.name).set(check.ok)
        self.hsm_up.set(picture.hsm)
        self._draining.set(picture.draining)
        self._givers.set(picture.fewest_givers)
        self._threshold.set(picture.threshold)
        self.disk_free.set(space.disk_free)
        self._disk_size.set(space.disk_total)
        self.map_used.set(space.map_used)
        self._map_size.set(space.map_total)
        for room in Room:
            self._room.labels(room.value).set(room is status.room)
        self._slow.set(status.slow_disk)
        self.in_flight.set(in_flight)

    def answered(self) -> dict[str, int]:
        """Client requests finished so far, by problem code ("ok": none)."""
        found: dict[str, int] = {}
        for sample in _samples(self._requests):
            code = sample.labels["code"]
            found[code] = found.get(code, 0) + int(sample.value)
        return found

    def charged(self) -> int:
        """Outcomes of charges proposed here so far."""
        return sum(int(sample.value) for sample in _samples(self._charged))

    def watch(self, collector: Collector) -> None:
        """Ask this collector too at each scrape."""
        self.registry.register(collector)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)


def _samples(counter: Counter) -> Iterator[Sample]:
    for family in counter.collect():
        yield from (sample for sample in family.samples if sample.name.endswith("_total"))
