"""The compose file of the WAN sends every link between two nodes to the proxy that carries it."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path

from chaos import wan_service

FILE = Path(__file__).parents[2] / "deploy" / "docker-compose.wan.yml"


def test_every_ordered_pair_of_nodes_goes_through_its_own_proxy():
    found = {}
    for source, text in re.findall(
        r"^  node-(\d):\n((?:    .*\n)+)", FILE.read_text(), re.MULTILINE
    ):
        for target, address in re.findall(r"QUORUMVAULT_PEERS_(\d): \"(.*)\"", text):
            found[int(source), int(target)] = address
    assert found == {
        (source, target): f"${{QUORUMVAULT_NET:-172.30}}.0.20:{wan_service.port(source, target)}"
        for source, target in permutations(wan_service.SEATS, 2)
    }
    assert len(set(found.values())) == len(found) == 20
