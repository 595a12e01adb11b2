"""The next step of every refusal that no restart mends, in the same words, naming one command."""

from __future__ import annotations


def replace_node(node_id: int | None = None) -> str:
    """What to do with a node whose directory must never be used again; its id if it is at hand."""
    if node_id is None:
        return (
            "replace the node with 'quorumvault member replace N --cluster DIR' (N: its id;"
            " docs/node.md)"
        )
    return (
        f"replace the node with 'quorumvault member replace {node_id} --cluster DIR' (docs/node.md)"
    )


def for_node(line: str, node_id: int) -> str:
    """A refusal that was written where the id is not at hand, with the id of this node."""
    return line.replace(replace_node(), replace_node(node_id))
