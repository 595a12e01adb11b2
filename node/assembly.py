"""Putting one node's parts together around its host and its HSM; no socket, no process.

What is checked here, once: that the HSM's AKE key is the one whose public half clients pin
(cluster.json). Everything that listens is made from an `Assembly` by node.node.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engines import identifiers
from engines._engines import __version__, opaque_derive_key_pair
from engines.encoding import b64u_decode
from node.admission import AccountRate, Slots
from node.api import Api
from node.device import Device
from node.evaluation import Hedge, distinct_seats
from node.exchange import Exchange
from node.gate import Gate
from node.health import Health, Picture
from node.metrics import Metrics
from node.metrics_raft import HostCollector
from node.parts import AkeKeys, Parts
from node.replica import Replica
from node.shares import Giver, Scheme
from node.tokens import Tokens
from node.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable

    import structlog

    from cluster.api import VaultHost
    from cluster.cluster_file import ClusterFile
    from cluster.room import Space
    from cluster.types import NodeId
    from node.config import NodeConfig


class OpenDevice(Device, Protocol):
    """The HSM after its start: requests, and the keys that stay in memory."""

    @property
    def record_key(self) -> bytes:
        """K_record, 32 bytes."""
        ...

    @property
    def ake_seed(self) -> bytes:
        """Seed of the OPAQUE server key pair, 32 bytes."""
        ...

    @property
    def reason(self) -> str:
        """Why it is not healthy; empty when it is."""
        ...


class WrongVaultKey(Exception):  # noqa: N818 - it says what is wrong, and the node does not start
    """The HSM's AKE key is not the one that cluster.json names."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of one node."""

    parts: Parts
    exchange: Exchange
    api: Api
    slots: Slots
    gate: Gate
    health: Health
    metrics: Metrics
    witness: Witness


def ake_keys(seed: bytes, cluster: ClusterFile) -> AkeKeys:
    """The vault's OPAQUE key pair.

    Raises:
        WrongVaultKey: it is not the pair that clients of this cluster pin.

    """
    private, public = opaque_derive_key_pair(seed)
    if not hmac.compare_digest(public, b64u_decode(cluster.opaque_public_key)):
        raise WrongVaultKey(
            "the HSM's OPAQUE key is not opaque_public_key of the cluster file: use the token and "
            "cluster.json of one cluster"
        )
    return AkeKeys(private, public)


def assemble(
    config: NodeConfig,
    cluster: ClusterFile,
    host: VaultHost,
    device: OpenDevice,
    *,
    send: Callable[[NodeId, bytes], bool],
    space: Callable[[], Space],
    log: structlog.typing.FilteringBoundLogger,
    fatal: Callable[[str], None],
) -> Assembly:
    """Make the parts of the node that `config` describes.

    Args:
        config: this node.
        cluster: all nodes.
        host: the Raft host.
        device: the HSM, started.
        send: queues a service frame to a peer.
        space: what the store says of its space.
        log: the node's logger.
        fatal: ends the process with one line.

    Raises:
        WrongVaultKey: see `ake_keys`.
        OSError: the witness file cannot be opened.

    """
    entry = cluster.node(config.node_id)
    metrics = Metrics(version=__version__, seats=range(1, len(cluster.nodes) + 1))
    witness = Witness(config.witness_file, entry.id, entry.seat)
    scheme = Scheme(cluster.cluster_id, entry.seat, len(cluster.nodes), cluster.threshold)
    giver = Giver(scheme, host, device, witness, metrics)
    exchange = Exchange(entry.id, giver, send, metrics)
    parts = Parts(
        cluster=cluster,
        node_id=entry.id,
        seat=entry.seat,
        replica=Replica(host, cluster.cluster_id, cluster.shards, metrics.proposal),
        device=device,
        exchange=exchange,
        hedge=Hedge(),
        ake=ake_keys(device.ake_seed, cluster),
        witness=witness,
        metrics=metrics,
        log=log,
    )
    record_key, cluster_id = device.record_key, cluster.cluster_id
    gate = Gate()
    slots = Slots(config.limits.concurrent_requests)

    def picture() -> Picture:
        status, room = host.status(), space()
        taken = Picture(
            status=status,
            space=room,
            hsm=device.healthy,
            hsm_reason=device.reason,
            draining=gate.draining,
            fewest_givers=min(
                len(distinct_seats(host.share_givers(shard))) for shard in cluster.shard_ids()
            ),
            threshold=cluster.threshold,
            drained=gate.drained,
        )
        metrics.observe(taken, in_flight=slots.taken)
        gate.disk_short = taken.is_short
        gate.disk_slow = status.slow_disk
        return taken

    metrics.watch(HostCollector(host.status))
    health = Health(picture)
    api = Api(
        parts,
        Tokens(
            config.tenants,
            cluster.name,
            lambda iss, sub: identifiers.record_id(record_key, cluster_id, iss, sub),
            time.time,
        ),
        slots,
        AccountRate(config.limits.account_per_minute),
        gate,
        max_body=config.limits.body_bytes,
        fatal=fatal,
    )
    return Assembly(parts, exchange, api, slots, gate, health, metrics, witness)
