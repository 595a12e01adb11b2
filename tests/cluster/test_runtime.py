"""Five hosts over real links, real stores and real time: what is acknowledged stays."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest
from link_mesh import Mesh, free_ports

from cluster.api import Applied, HostStopped, NotAppended, Shape, Unknown
from cluster.boot import boot
from cluster.cluster_file import NodeEntry, replaced
from cluster.commands import Barrier, Register, RegisterOutcome, Status
from cluster.host import Host
from cluster.runtime import TICK_S, Runtime
from cluster.snapshot_files import SnapshotDirectory
from cluster.stamp import enrolment
from cluster.store import Store
from cluster.types import InvariantError
from engines._engines import ed25519_public_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

SHARDS = 2


class HsmAwayError(Exception):
    """What the HSM's "not now" looks like to the runtime."""


class VaultNode:
    """One node as the node package assembles it, with a stamp that survives it."""

    def __init__(self, vault: Vault, node_id: int) -> None:
        self.vault = vault
        self.node_id = node_id
        self.stamp = enrolment(vault.mesh.cluster.cluster_id, node_id)
        self.hsm_away = False
        self.fatal: list[str] = []
        self.service: list[tuple[int, bytes]] = []
        self.running = False

    async def write_stamp(self, data: bytes) -> None:
        await asyncio.sleep(0)
        if self.hsm_away:
            raise HsmAwayError("the token is away")
        self.stamp = data

    def on_service(self, peer: int, payload: bytes) -> None:
        if payload == b"break":
            raise ValueError("nonsense")
        self.service.append((peer, payload))
        if payload == b"ask":
            self.runtime.send_service(peer, b"answer")

    async def start(self) -> None:
        mesh, root = self.vault.mesh, self.vault.root
        cluster = mesh.cluster
        shape = Shape.of(cluster, self.node_id)
        self.store = Store.open(
            root / f"store{self.node_id}", bytes((self.node_id,)) * 32, map_bytes=1 << 28
        )
        state = boot(self.store, self.stamp, shape)
        self.mesh_node = mesh.node(self.node_id)
        await self.mesh_node.listen()
        self.runtime = Runtime(
            make_host=lambda ports: Host(shape, state, ports),
            store=self.store,
            links=self.mesh_node.links,
            files=SnapshotDirectory(self.mesh_node.directory),
            write_stamp=self.write_stamp,
            stamp_away=(HsmAwayError,),
            on_service=self.on_service,
            on_fatal=self.fatal.append,
        )
        self.runtime.start()
        self.running = True

    async def stop(self) -> None:
        if self.running:
            self.running = False
            await self.runtime.stop()
            await self.mesh_node.stop()
            self.store.close()


class Vault:
    def __init__(self, root: Path, nodes: int = 5) -> None:
        self.root = root
        self.mesh = Mesh(root, nodes, shards=SHARDS)
        self.nodes = {node: VaultNode(self, node) for node in range(1, nodes + 1)}

    async def start(self, *nodes: int) -> None:
        for node in nodes or self.nodes:
            await self.nodes[node].start()

    async def stop(self, *nodes: int) -> None:
        await asyncio.gather(*(self.nodes[node].stop() for node in nodes or self.nodes))
        for node in nodes or self.nodes:
            assert self.nodes[node].fatal == []

    async def until(self, condition: Callable[[], bool], timeout: float = 20.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():  # noqa: ASYNC110 - what is waited for lives in five hosts
                await asyncio.sleep(0.02)

    def led(self) -> bool:
        """Every shard has a leader that all running nodes know."""
        running = [node for node in self.nodes.values() if node.running]
        leaders = [
            {node.runtime.host.status().groups[shard].leader for node in running}
            for shard in range(SHARDS)
        ]
        return all(len(known) == 1 and 0 not in known for known in leaders)

    async def register(self, node: int, name: str, timeout_s: float = 8.0):
        """Register `name` through `node` until it is applied there."""
        return await self.nodes[node].runtime.propose(registration(name), timeout_s=timeout_s)


def registration(name: str) -> Register:
    digest = hashlib.sha256(name.encode()).digest()
    return Register(digest, 0, digest, ed25519_public_key(digest), b"\1" + digest * 10)


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[Vault]:
    made = Vault(tmp_path)
    await made.start()
    yield made
    await made.stop()


def done(result: object) -> bool:
    return (
        isinstance(result, Applied)
        and isinstance(result.outcome, RegisterOutcome)
        and result.outcome.status in (Status.DONE, Status.SAME)
    )


async def test_five_nodes_agree_and_survive_one_two_and_all_of_them(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    await vault.start()
    await vault.until(vault.led)
    names = [f"first{n}" for n in range(50)]
    results = await asyncio.gather(
        *(vault.register(1 + n % 5, name) for n, name in enumerate(names))
    )
    assert all(done(result) for result in results)

    await vault.stop(2)
    more = [f"second{n}" for n in range(20)]
    results = await asyncio.gather(
        *(vault.register((1, 3, 4, 5)[n % 4], name) for n, name in enumerate(more))
    )
    assert all(done(result) for result in results)

    await vault.stop(4)
    assert done(await vault.register(1, "third"))
    await vault.start(2, 4)
    assert done(await vault.register(2, "fourth"))

    await vault.stop()
    await vault.start()
    await vault.until(vault.led)
    everything = [*names, *more, "third", "fourth"]
    for node in vault.nodes:
        barriers = [
            await vault.nodes[node].runtime.propose(Barrier(), timeout_s=8.0, shard=shard)
            for shard in range(SHARDS)
        ]
        assert all(isinstance(result, Applied) for result in barriers)
        host = vault.nodes[node].runtime.host
        for name in everything:
            record, _ = host.view(hashlib.sha256(name.encode()).digest())
            assert record is not None
            assert record.pending is not None
    await vault.until(
        lambda: all(
            len({group.applied for group in groups}) == 1
            for groups in zip(
                *(node.runtime.host.status().groups for node in vault.nodes.values()), strict=True
            )
        )
    )
    assert all(node.runtime.host.status().hash_agreement for node in vault.nodes.values())
    await vault.stop()


async def test_a_node_away_until_the_log_was_cut_comes_back_by_snapshot(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.compaction.LOG_CUT_ENTRIES", 20)
    monkeypatch.setattr("cluster.compaction.LOG_KEEP_ENTRIES", 5)
    await vault.until(vault.led)
    assert done(await vault.register(5, "before"))
    await vault.stop(5)
    names = [f"missed{n}" for n in range(120)]
    for start in range(0, len(names), 3):
        group = [vault.register(1, name) for name in names[start : start + 3]]
        assert all(done(result) for result in await asyncio.gather(*group))
    host = vault.nodes[1].runtime.host
    await vault.until(lambda: all(group.first_index > 5 for group in host.status().groups))
    await vault.start(5)
    returned = vault.nodes[5].runtime.host
    await vault.until(
        lambda: all(
            returned.view(hashlib.sha256(name.encode()).digest())[0] is not None for name in names
        )
    )
    assert returned.status().counters.snapshots_installed >= 1
    assert done(await vault.register(5, "after"))
    await vault.until(lambda: vault.nodes[5].mesh_node.links.connected(1))
    assert returned.status().hash_agreement


async def test_without_a_quorum_nothing_is_claimed_and_with_it_all_goes_on(vault: Vault) -> None:
    await vault.until(vault.led)
    await vault.stop(3, 4, 5)
    result = await vault.register(1, "lonely", timeout_s=1.0)
    assert isinstance(result, NotAppended | Unknown)
    await vault.start(3)
    assert done(await vault.register(1, "company"))


async def test_a_node_whose_hsm_is_away_follows_and_leads_nothing_new(vault: Vault) -> None:
    await vault.until(vault.led)
    vault.nodes[1].hsm_away = True
    await vault.stop(2)
    await vault.start(2)
    assert done(await vault.register(3, "on"))
    vault.nodes[1].hsm_away = False
    assert done(await vault.register(1, "here"))


async def test_nodes_ask_each_other_over_the_service_channel(vault: Vault) -> None:
    one, two = vault.nodes[1], vault.nodes[2]
    await vault.until(lambda: one.mesh_node.links.connected(2) and two.mesh_node.links.connected(1))
    assert one.runtime.send_service(2, b"ask")
    await vault.until(lambda: one.service == [(2, b"answer")])
    assert two.service == [(1, b"ask")]


async def test_a_service_frame_that_cannot_be_taken_cuts_the_link_only(vault: Vault) -> None:
    one, two = vault.nodes[1], vault.nodes[2]
    await vault.until(lambda: one.mesh_node.links.connected(2))
    connects = one.mesh_node.links.report()[0].connects
    assert one.runtime.send_service(2, b"break")
    await vault.until(lambda: one.mesh_node.links.report()[0].connects > connects)
    assert two.fatal == []


async def test_a_cancelled_proposal_is_nobodys(vault: Vault) -> None:
    await vault.until(vault.led)
    task = asyncio.create_task(vault.register(1, "dropped"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done(await vault.register(1, "dropped"))


async def test_a_drained_node_leads_nothing_and_takes_nothing(vault: Vault) -> None:
    await vault.until(vault.led)
    leader = vault.nodes[1].runtime.host.status().groups[0].leader
    await vault.nodes[leader].runtime.drain()
    await vault.until(lambda: vault.led() and not leads(vault.nodes[leader]))
    assert isinstance(await vault.register(leader, "late"), NotAppended)
    assert done(await vault.register(1 + leader % 5, "elsewhere"))


def leads(node: VaultNode) -> bool:
    return any(group.role == "leader" for group in node.runtime.host.status().groups)


async def test_a_stopped_node_answers_that_nothing_was_sent(vault: Vault) -> None:
    await vault.stop(1)
    assert isinstance(await vault.register(1, "x"), NotAppended)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InvariantError("shard 1: applied beyond commit"), "shard 1: applied beyond commit"),
        (HostStopped("rolled back"), "rolled back"),
        (ValueError("a bug"), "ValueError: a bug"),
    ],
)
async def test_what_leaves_the_host_ends_the_node_in_one_line(
    vault: Vault, error: Exception, line: str
) -> None:
    node = vault.nodes[1]

    def broken(*_args: object) -> None:
        raise error

    node.runtime.host._host.view = broken
    with pytest.raises(HostStopped):
        node.runtime.host.view(b"r" * 32)
    assert node.fatal == [line]
    with pytest.raises(HostStopped, match="has stopped"):
        node.runtime.host.status()
    assert isinstance(await vault.register(1, "x"), NotAppended)
    node.fatal.clear()


async def test_the_loops_stall_is_measured_and_missed_ticks_are_dropped(vault: Vault) -> None:
    node = vault.nodes[1]
    host = node.runtime.host._host
    ticks: list[float] = []
    loop = asyncio.get_running_loop()
    on_tick = host.on_tick

    def counted() -> None:
        ticks.append(loop.time())
        on_tick()

    host.on_tick = counted
    await vault.until(lambda: len(ticks) >= 2)
    node.runtime.worst_lag_s()
    stall_until = loop.time() + 0.4
    while loop.time() < stall_until:
        pass
    before = len(ticks)
    await vault.until(lambda: len(ticks) >= before + 3)
    assert node.runtime.worst_lag_s() > 0.3
    on_time = (loop.time() - stall_until) / TICK_S
    assert len(ticks) - before <= on_time + 2, "missed ticks must not be made up for"


async def test_a_replaced_node_s_successor_gets_log_ledger_and_vote_over_real_links(
    tmp_path: Path,
) -> None:
    vault = Vault(tmp_path)
    await vault.start()
    await vault.until(vault.led)
    for number in range(12):
        assert done(await vault.register(1 + number % 5, f"before{number}"))
    await vault.stop(4)
    ports = free_ports(4)
    entry = NodeEntry(6, 4, "dc4", *(f"127.0.0.1:{port}" for port in ports))
    vault.mesh.cluster = replaced(vault.mesh.cluster, 4, entry)
    del vault.nodes[4]
    for node in vault.nodes.values():
        node.runtime.adopt(vault.mesh.cluster)
    vault.nodes[6] = VaultNode(vault, 6)
    await vault.start(6)

    def fulfilled() -> bool:
        reports = [
            group for node in vault.nodes.values() for group in node.runtime.host.status().groups
        ]
        voters = {group.voters for group in reports}
        return voters == {(1, 2, 3, 5, 6)} and all(group.ledger_complete for group in reports)

    await vault.until(fulfilled, timeout=40)
    await vault.stop(1, 2)
    assert done(await vault.register(6, "after"))
    await vault.stop(6)
    await vault.start(6)
    assert done(await vault.register(6, "after a restart"))
    assert all(group.ledger_complete for group in vault.nodes[6].runtime.host.status().groups)
    await vault.stop()
