"""A node whose disk fills steps aside, the vault goes on, the node returns (ADR 0011; I4, I9)."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from disk_vault import MIB, silence_s
from harness import wait_until
from judgement import judge, leader, metric

from chaos.client import Endpoints
from chaos.history import History
from chaos.load import Load
from chaos.process_disk import why_no_mount

if TYPE_CHECKING:
    import random

    from disk_vault import DiskVault

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),
    pytest.mark.skipif(why_no_mount() is not None, reason=str(why_no_mount())),
]

SERVED_AGAIN_S = 30.0
SHARDS = range(4)


def leads(vault: DiskVault, node: int) -> bool:
    return any(metric(vault, node, "quorumvault_raft_leader", shard) for shard in SHARDS)


def caught_up(vault: DiskVault, node: int) -> bool:
    """It has applied what any node had applied when it was asked."""
    name = "quorumvault_raft_applied"
    wanted = {s: max(metric(vault, n, name, s) or 0 for n in vault.ids) for s in SHARDS}
    return all((metric(vault, node, name, shard) or 0) >= wanted[shard] for shard in SHARDS)


async def test_a_disk_filled_to_the_last_byte_under_load_costs_one_node_and_nothing_else(
    disk_vault: DiskVault, seeded: random.Random
) -> None:
    vault = disk_vault
    victim = await asyncio.to_thread(wait_until, lambda: leader(vault, 0), "a leader")
    process = vault.cluster.nodes[victim].process
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 6, seeded, "full") as load,
    ):
        await load.start()
        await load.progress(30, SERVED_AGAIN_S)
        began = History.now_ns()
        await asyncio.to_thread(vault.disks[victim].fill)
        assert os.statvfs(vault.data_dir(victim)).f_bavail == 0
        await asyncio.to_thread(
            wait_until, lambda: not leads(vault, victim), "leadership is handed over"
        )
        await load.progress(300, 60.0)
        sys.stdout.write(f"disk full: longest silence {silence_s(load.history, began):.2f} s\n")
        status, why = await asyncio.to_thread(vault.probe, victim, "/readyz")
        assert status == 503
        assert "disk: 0 bytes free, too few" in why
        assert not await asyncio.to_thread(leads, vault, victim)
        assert (await asyncio.to_thread(vault.probe, victim, "/livez"))[0] == 200
        freed = History.now_ns()
        await asyncio.to_thread(vault.disks[victim].free)
        await asyncio.to_thread(vault.until_ready, victim)
        await asyncio.to_thread(wait_until, lambda: caught_up(vault, victim), "it caught up")
        back = (History.now_ns() - freed) / 1e9
        sys.stdout.write(f"disk freed: ready and caught up after {back:.2f} s\n")
        await load.stop()
        assert process.returncode is None, "it never ended"
        await judge(vault, load.clients)


async def test_a_short_node_turns_clients_away_and_still_follows(
    disk_vault: DiskVault, seeded: random.Random
) -> None:
    vault = disk_vault
    victim = await asyncio.to_thread(wait_until, lambda: leader(vault, 1), "a leader")
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 3, seeded, "short") as load,
    ):
        await load.start()
        await asyncio.to_thread(vault.leave_free, victim, 9 * MIB)
        await asyncio.to_thread(wait_until, lambda: not leads(vault, victim), "handed over")
        asking = load.clients[0]
        await asyncio.to_thread(
            wait_until, lambda: vault.probe(victim, "/readyz")[0] == 503, "not ready"
        )
        await load.stop()
        reply = await asking.attempt(victim, asking.guess(b"right"))
        assert (reply.status, reply.code, reply.charged) == (429, "busy", "no")
        await asyncio.to_thread(wait_until, lambda: caught_up(vault, victim), "it follows")
        await asyncio.to_thread(vault.disks[victim].free)
        await asyncio.to_thread(vault.until_ready, victim)
        await judge(vault, load.clients)


def test_a_node_started_on_a_full_disk_waits_alive_and_starts_when_there_is_room(
    disk_vault: DiskVault,
) -> None:
    vault, victim = disk_vault, 4
    vault.kill(victim)
    vault.disks[victim].fill()
    since = vault.mark(victim)
    vault.spawn(victim)
    wait_until(lambda: vault.probe(victim, "/livez")[0] == 200, "it lives")
    status, why = vault.probe(victim, "/readyz")
    assert (status, why) == (503, "[-] disk: 0 bytes free, too few to start\nnot ready\n")
    # Told to stop while it waits, it stops; and the next start waits again.
    vault.cluster.signal(victim, signal.SIGTERM)
    process = vault.cluster.nodes[victim].process
    wait_until(lambda: process.returncode is not None, "it stops")
    assert process.returncode == 0
    waiting, stopped = vault.said(victim, since)
    assert waiting.startswith("quorumvault: waiting for room: data directory")
    assert "0 bytes free of 134217728; make" in waiting
    assert waiting.endswith("free, and the node starts by itself")
    assert stopped == "quorumvault: stopped while it waited for disk space"
    since = vault.mark(victim)
    vault.spawn(victim)
    wait_until(lambda: vault.probe(victim, "/livez")[0] == 200, "it lives")
    vault.disks[victim].free()
    vault.until_ready(victim)
    assert len(vault.said(victim, since)) == 1, "it said once what it waits for"


async def test_a_batch_that_does_not_fit_ends_the_node_and_is_not_acknowledged(
    disk_vault: DiskVault, seeded: random.Random
) -> None:
    """Free space looks good and the write fails all the same: a quota, or a faster neighbour."""
    vault, victim = disk_vault, 2
    since = vault.mark(victim)
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 3, seeded, "quota") as load,
    ):
        await load.start()
        began = History.now_ns()
        vault.shims[victim].set("write", error=errno.ENOSPC)
        code, line = await asyncio.to_thread(vault.ended, victim, since)
        assert code == 70
        assert "No space left on device" in line
        assert "free space on the disk or check it, then start the node again" in line
        await load.everybody(SERVED_AGAIN_S)
        sys.stdout.write(f"ENOSPC: longest silence {silence_s(load.history, began):.2f} s\n")
        vault.shims[victim].heal()
        await asyncio.to_thread(vault.restart, victim)
        await load.everybody(SERVED_AGAIN_S)
        await load.stop()
        await judge(vault, load.clients)
