"""An old copy that only the peers can tell, a lost disk, and the way back: the node is replaced.

Design section 6, raft-host.md rule (c): same incarnation, same term, fewer entries.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import pytest
from judgement import judge

from chaos.client import Endpoints
from chaos.load import Load

if TYPE_CHECKING:
    import random

    from disk_vault import DiskVault

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SERVED_AGAIN_S = 30.0


async def started_on_a_copy_of_this_term(
    vault: DiskVault, victim: int, load: Load
) -> tuple[int, str]:
    """Exit code and line of a node on a copy of its disk, since which it gave no vote.

    Where an election came between (the victim stood still while its disk was copied), the HSM was
    stamped since and refuses the copy without any peer: the right disk comes back, and once more.
    """
    for _ in range(5):
        vault.cluster.pause(victim)
        await asyncio.to_thread(vault.disks[victim].copy)
        vault.cluster.resume(victim)
        await asyncio.to_thread(vault.until_ready, victim)
        await load.progress(100, SERVED_AGAIN_S)
        await asyncio.to_thread(vault.kill, victim)
        vault.disks[victim].put_image()
        code, line = await asyncio.to_thread(vault.refused, victim)
        if code != 8:
            return code, line
        assert "older than the HSM's stamp" in line
        vault.disks[victim].put_right()
        await asyncio.to_thread(vault.restart, victim)
    pytest.fail("every copy of the disk was followed by an election")


async def test_an_old_copy_of_this_very_life_is_refused_by_its_peers_and_the_node_replaced(
    disk_vault: DiskVault, seeded: random.Random
) -> None:
    vault, victim = disk_vault, 5
    async with (
        await Endpoints.connect(vault.connection_file) as endpoints,
        Load(endpoints, 4, seeded, "rolled-back") as load,
    ):
        await load.start()
        code, line = await started_on_a_copy_of_this_term(vault, victim, load)
        assert code == 70
        assert line.startswith("quorumvault: fatal: the data directory is older than what node ")
        assert "it was rolled back; replace the node with 'quorumvault member replace" in line
        # From here on no copy of this directory starts, the right one neither: it was given up.
        code, line = await asyncio.to_thread(vault.refused, victim)
        assert code in (8, 70)
        assert "quorumvault member replace" in line
        began = time.monotonic()
        new = await asyncio.to_thread(lambda: vault.call(vault.cluster.replace(victim)))
        sys.stdout.write(f"replaced by node {new} in {time.monotonic() - began:.1f} s\n")
        await asyncio.to_thread(vault.until_ready)
        await load.everybody(SERVED_AGAIN_S)
        await load.stop()
    async with await Endpoints.connect(vault.connection_file) as endpoints:
        for client in load.clients:
            client.vault = endpoints
        await judge(vault, load.clients)
