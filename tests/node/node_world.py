"""Five whole nodes but for Raft, disk, sockets between them and tokens: one log on a table.

Every node has the product's own parts around a `TableHost`, which applies the shared log with the
real record machine and ledger, at its own pace; the devices compute with openly lying keys. So the
node's logic meets the real rules, and a test can hold back one node, lose messages, corrupt a
share, or say what a proposal comes to.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from dataclasses import dataclass, field
from uuid import UUID

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cluster import ledger
from cluster.api import (
    Applied,
    Counters,
    Give,
    Giver,
    GroupReport,
    HostStatus,
    LaterEra,
    LedgerFull,
    NotAGiver,
    NotAppended,
    PeerReport,
    Refused,
    Wait,
)
from cluster.cluster_file import ClusterFile, NodeEntry
from cluster.commands import Barrier, BarrierOutcome
from cluster.ledger import ShareRefusal
from cluster.record import Rules
from cluster.record import apply as apply_command
from cluster.store import Space
from cluster.types import Era, NodeId, RegistrationId, Seat
from engines import _engines
from engines.encoding import b64u_encode
from engines.identifiers import shard_of
from hsm import prf, sealing
from hsm.errors import HsmAway, SealBroken
from node.assembly import assemble
from node.config import Limits, Listen, NodeConfig, Tenant

CLUSTER_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
NAME = "table"
SEATS = 5
SHARDS = 4
LIMIT = 10


def _key(name: str) -> bytes:
    return hashlib.sha512(name.encode()).digest()


SUBSETS = {bytes(s): _key(f"oprf/{s}") for s in itertools.combinations(range(1, 6), 3)}
SEAL = _key("seal")
AKE_SEED = _key("ake")[:32]
RECORD_KEY = _key("record")[:32]


async def until(condition) -> None:
    """Let the loop run until the condition holds."""
    while not condition():  # noqa: ASYNC110 - many conditions, none of them an event
        await asyncio.sleep(0)


@dataclass
class TableDevice:
    """An HSM whose keys lie on the table."""

    seat: int
    healthy: bool = True
    reason: str = ""
    record_key: bytes = RECORD_KEY
    ake_seed: bytes = AKE_SEED
    lie: bool = False
    calls: list[str] = field(default_factory=list)
    break_seals: bool = False

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if not self.healthy:
            raise HsmAway("pulled out")

    async def subset_prfs(self, registration_id):
        self._called("subset_prfs")
        salt = b"lie" if self.lie else b""
        message = prf.subset_message(registration_id) + salt
        return [(s, prf.prf(k, message)) for s, k in SUBSETS.items() if self.seat in s]

    async def seal(self, record_id, registration_id, contents):
        self._called("seal")
        return sealing.seal(lambda m: prf.prf(SEAL, m), 1, record_id, registration_id, contents)

    async def unseal(self, record_id, registration_id, sealed):
        self._called("unseal")
        if self.break_seals:
            raise SealBroken("altered")
        return sealing.unseal(lambda m: prf.prf(SEAL, m), record_id, registration_id, sealed)


class Log:
    """The one log: commands in order."""

    def __init__(self) -> None:
        self.entries = []
        self.hosts: list[TableHost] = []

    def append(self, command, shard) -> int:
        self.entries.append((command, shard))
        for host in self.hosts:
            host.soon()
        return len(self.entries)


class TableProposal:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class TableHost:
    """`cluster.api.VaultHost` over the table's log."""

    def __init__(self, world: World, node_id: int) -> None:
        self.world = world
        self.node_id = NodeId(node_id)
        self.rules = Rules(CLUSTER_ID, LIMIT)
        self.applied = 0
        self.records = {}
        self.rows = {}
        self.watchers = {}
        self.waiting = {}
        self.held = False
        self.giver = True
        self.scripted = []
        self.proposed = []
        self.sends = 1
        self.jumped = False
        self.leader = 1
        self.full_ledger = False
        world.log.hosts.append(self)

    def soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.catch_up)

    def catch_up(self) -> None:
        while not self.held and self.applied < len(self.world.log.entries):
            command, shard = self.world.log.entries[self.applied]
            self.applied += 1
            outcome = BarrierOutcome()
            if not isinstance(command, Barrier):
                rid = command.record_id
                record, outcome = apply_command(self.rules, self.records.get(rid), command)
                row, _ = ledger.after(self.rules, rid, self.rows.get(rid), command, outcome)
                self.records[rid], self.rows[rid] = record, row
                for callback in list(self.watchers.get(rid, [])):
                    callback()
            done = self.waiting.pop(self.applied, None)
            if done is not None:
                done(Applied(outcome, shard, self.applied, self.sends, self.jumped))

    def propose(self, command, *, timeout_s, done, shard=None):
        self.proposed.append(command)
        proposal = TableProposal()

        def answer(result):
            if not proposal.cancelled:
                done(result)

        loop = asyncio.get_running_loop()
        if self.scripted:
            result = self.scripted.pop(0)
            if result is not None:
                loop.call_soon(answer, result)
                return proposal
        if self.world.quorum:
            if shard is None:
                shard = shard_of(command.record_id, SHARDS)
            index = self.world.log.append(command, shard)
            self.waiting[index] = answer
        else:
            loop.call_soon(answer, NotAppended("no leader took it in time"))
        return proposal

    def view(self, record_id):
        return self.records.get(record_id), self.applied

    def ledger_row(self, record_id):
        return self.rows.get(record_id)

    def share_verdict(self, record_id, era, attempt_id):
        if not self.giver:
            return NotAGiver("not today")
        if self.full_ledger:
            return LedgerFull()
        record = self.records.get(record_id)
        known = 0 if record is None else record.era
        if known != era:
            return Wait() if known < era else LaterEra(Era(known))
        if record is None or record.active is None:
            return Refused("nothing is registered in this era")
        if attempt_id not in record.attempts:
            full = len(record.attempts) >= LIMIT
            return Refused("the list is full without this attempt") if full else Wait()
        registration = record.active.registration_id
        row = self.rows.get(record_id)
        refusal = ledger.may_share(self.rules, row, record, registration, attempt_id)
        if refusal is ShareRefusal.LEDGER_FULL:
            return LedgerFull()
        if refusal is not None:
            return Refused(str(refusal))
        return Give(RegistrationId(registration), Era(record.era))

    def want_share(self, record_id):
        pass

    def watch(self, record_id, callback):
        self.watchers.setdefault(record_id, []).append(callback)
        return lambda: self.watchers[record_id].remove(callback)

    def share_givers(self, _shard):
        found = [
            Giver(h.node_id, Seat(h.node_id), 0.0 if h is self else abs(h.node_id - self.node_id))
            for h in self.world.log.hosts
            if h.giver and h.world.nodes[h.node_id].device.healthy
        ]
        return sorted(found, key=lambda g: g.rtt_ms)

    def set_hsm(self, *, working):
        pass

    def status(self):
        groups = tuple(
            GroupReport(
                s, "follower", self.leader, 1, self.applied, self.applied, 1, self.applied, 0, 0,
                "", True, {}, False, (1, 2, 3, 4, 5), (), 0, True,
            )
            for s in range(SHARDS)
        )  # fmt: skip
        peers = (PeerReport(NodeId(9), Seat(2), True, 1.5, 10.0, True, 4, False),)
        return HostStatus(
            self.node_id, 0, 1, True, "", True, False, groups, peers, True, (), Counters(), 0.0, 0
        )

    def drain(self, done):
        asyncio.get_running_loop().call_soon(done)

    def start(self):
        pass

    def stop(self):
        pass


@dataclass
class TableNode:
    host: TableHost
    device: TableDevice
    assembly: object = None
    cut: set = field(default_factory=set)
    frames: int = 0

    @property
    def parts(self):
        return self.assembly.parts

    @property
    def api(self):
        return self.assembly.api


class World:
    """All of it."""

    def __init__(self, folder, *, limits: Limits | None = None) -> None:
        self.log = Log()
        self.quorum = True
        self.fatal = []
        self.folder = folder
        self.tenant_key = Ed25519PrivateKey.generate()
        _, public = _engines.opaque_derive_key_pair(AKE_SEED)
        self.cluster = ClusterFile(
            version=1,
            cluster_id=CLUSTER_ID,
            name=NAME,
            shards=SHARDS,
            limit=LIMIT,
            grace_s=120,
            threshold=3,
            nodes=tuple(
                NodeEntry(n, n, f"dc-{n}", f"h:{n}1", f"h:{n}2", f"h:{n}3", f"h:{n}4")
                for n in range(1, SEATS + 1)
            ),
            check_values={"identity": "00" * 8},
            opaque_public_key=b64u_encode(public),
        )
        self.nodes: dict[int, TableNode] = {}
        for node_id in range(1, SEATS + 1):
            node = TableNode(TableHost(self, node_id), TableDevice(node_id))
            self.nodes[node_id] = node
            node.assembly = assemble(
                self.config(node_id, limits or Limits(account_per_minute=0)),
                self.cluster,
                node.host,
                node.device,
                send=lambda to, payload, me=node_id: self._send(me, to, payload),
                space=lambda: Space(0, 1 << 30, 1 << 40, 1 << 40),
                log=structlog.get_logger(),
                fatal=self.fatal.append,
            )

    def config(self, node_id: int, limits: Limits) -> NodeConfig:
        none = self.folder / "none"
        return NodeConfig(
            node_id=node_id,
            cluster_file=none,
            data_dir=none,
            drain_s=1.0,
            hsm_module=none,
            hsm_token_label="t",
            hsm_pin_file=none,
            tls_ca=none,
            tls_cert=none,
            tls_key=none,
            listen=Listen(("h", 1), ("h", 2), ("h", 3), ("h", 4)),
            peer_addresses={},
            tenants=(Tenant("demo", "EdDSA", self.tenant_key.public_key(), None),),
            limits=limits,
            log_level="info",
            log_file=None,
            witness_file=self.folder / f"witness-{node_id}.jsonl",
            map_bytes=1 << 30,
        )

    def _send(self, sender: int, to: int, payload: bytes) -> bool:
        if to in self.nodes[sender].cut or sender in self.nodes[to].cut:
            return False
        self.nodes[sender].frames += 1
        exchange = self.nodes[to].assembly.exchange
        asyncio.get_running_loop().call_soon(exchange.on_frame, NodeId(sender), payload)
        return True

    def close(self) -> None:
        for node in self.nodes.values():
            node.assembly.exchange.close()
            node.assembly.witness.close()

    def public_pem(self) -> bytes:
        return self.tenant_key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    def token(self, now: float, **changes) -> str:
        claims = {
            "iss": "demo",
            "sub": "alice",
            "aud": NAME,
            "iat": int(now),
            "exp": int(now) + 3600,
            "scope": "vault:restore vault:manage",
            "device": "primary",
        } | changes
        claims = {k: v for k, v in claims.items() if v is not None}
        return jwt.encode(claims, self.tenant_key, algorithm="EdDSA")

    def witness(self, node_id: int):
        import json

        path = self.folder / f"witness-{node_id}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def all_witnessed(self):
        return [line for n in self.nodes for line in self.witness(n)]
