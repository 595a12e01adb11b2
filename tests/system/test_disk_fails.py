"""A write or sync that fails ends the node at once, acknowledges nothing, and it comes back clean.

Design I4, I9; raft-host.md, step 8. A failed fsync is not tried again: what the kernel then still
holds, and whether it is on disk, nobody knows.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from typing import TYPE_CHECKING

import pytest
from disk_vault import silence_s
from harness import wait_until
from judgement import judge, leader

from chaos.client import Endpoints
from chaos.history import History
from chaos.load import Load

if TYPE_CHECKING:
    import random

    from disk_vault import DiskVault

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SERVED_AGAIN_S = 30.0
EXIT_FATAL = 70


@pytest.mark.parametrize("call", ["sync", "write"])
async def test_a_failed_sync_or_write_ends_the_leader_which_comes_back_clean(
    disk_vault: DiskVault, seeded: random.Random, call: str
) -> None:
    vault = disk_vault
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 4, seeded, f"eio-{call}") as load,
    ):
        await load.start()
        victim = await asyncio.to_thread(wait_until, lambda: leader(vault, 2), "a leader")
        await load.progress(10, SERVED_AGAIN_S)
        since, began = vault.mark(victim), History.now_ns()
        # Only the first one fails: a node that tried again would get away with it.
        vault.shims[victim].set(call, error=errno.EIO, times=1)
        code, line = await asyncio.to_thread(vault.ended, victim, since)
        assert code == EXIT_FATAL
        assert line.startswith("quorumvault: fatal: store ")
        assert "Input/output error" in line
        assert line.endswith("free space on the disk or check it, then start the node again")
        assert vault.shims[victim].hits(call) >= 1
        await load.everybody(SERVED_AGAIN_S)
        sys.stdout.write(f"EIO in {call}: longest wait {silence_s(load.history, began):.2f} s\n")
        await asyncio.to_thread(vault.restart, victim)
        await load.everybody(SERVED_AGAIN_S)
        await load.stop()
        await judge(vault, load.clients)


async def test_three_disks_that_fail_at_once_acknowledge_nothing_and_lose_nothing(
    disk_vault: DiskVault, seeded: random.Random
) -> None:
    vault = disk_vault
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 4, seeded, "eio-three") as load,
    ):
        await load.start()
        await load.progress(20, SERVED_AGAIN_S)
        victims = seeded.sample(vault.ids, 3)
        marks = {victim: vault.mark(victim) for victim in victims}
        began = History.now_ns()
        for victim in victims:
            vault.shims[victim].set("sync", error=errno.EIO)
        for victim in victims:
            code, _ = await asyncio.to_thread(vault.ended, victim, marks[victim])
            assert code == EXIT_FATAL
        for victim in victims:
            vault.shims[victim].heal()
        await asyncio.to_thread(vault.restart, *victims)
        await load.everybody(SERVED_AGAIN_S)
        sys.stdout.write(f"EIO at three: longest wait {silence_s(load.history, began):.2f} s\n")
        await load.stop()
        await judge(vault, load.clients)


async def test_a_disk_that_stalls_makes_its_node_unready_and_the_vault_goes_on(
    disk_vault: DiskVault, seeded: random.Random
) -> None:
    vault = disk_vault
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 4, seeded, "slow") as load,
    ):
        await load.start()
        victim = await asyncio.to_thread(wait_until, lambda: leader(vault, 3), "a leader")
        began = History.now_ns()
        vault.shims[victim].set("sync", delay_s=2.5)
        await asyncio.to_thread(
            wait_until,
            lambda: "[-] disk: slow" in vault.probe(victim, "/readyz")[1],
            "it says that its disk is slow",
        )
        await load.everybody(SERVED_AGAIN_S)
        sys.stdout.write(f"syncs of 2.5 s: longest wait {silence_s(load.history, began):.2f} s\n")
        vault.shims[victim].heal()
        await asyncio.to_thread(vault.until_ready, victim)
        await load.stop()
        await judge(vault, load.clients)
