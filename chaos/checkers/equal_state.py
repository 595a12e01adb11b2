"""I8: nodes that applied the same index have the same records."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from chaos.checkers.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.checkers.findings import NodeState


def check(states: Sequence[NodeState]) -> list[Finding]:
    """Find shards whose hashes differ at one index."""
    words: dict[tuple[int, int], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for each in states:
        words[each.shard, each.index][each.hash].add(each.node)
    found: list[Finding] = []
    for (shard, index), by_hash in sorted(words.items()):
        if len(by_hash) > 1:
            sides = "; ".join(
                f"nodes {sorted(nodes)} say {name[:16]}" for name, nodes in sorted(by_hash.items())
            )
            found.append(Finding("equal_state", "I8", f"shard {shard} at index {index}: {sides}"))
    return found
