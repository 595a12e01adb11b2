"""What ``quorumvault member replace`` changes: one node for another, in the next file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.cluster_file import ClusterFile, NodeEntry


@dataclass(frozen=True)
class Change:
    """One replacement: the file before and after it (the same when it was written before)."""

    before: ClusterFile
    after: ClusterFile
    old: int
    new: int

    @property
    def begun(self) -> bool:
        """An earlier run wrote the new file."""
        return self.before.revision == self.after.revision

    @property
    def old_entry(self) -> NodeEntry | None:
        """Where the old node was, as far as this run knows."""
        return next((entry for entry in self.before.nodes if entry.id == self.old), None)


def change_of(
    cluster: ClusterFile, old: int, new_id: int | None, addresses: Mapping[str, str]
) -> Change:
    """The change that replaces node `old`, or that did so in an earlier run.

    Args:
        cluster: the file as it is in the directory.
        old: who is lost.
        new_id: the new node's id; None for the next free one.
        addresses: "host:port" by listener, where they are not the old node's.

    Raises:
        Failure: there is no such node, the id was used before, or the file would not be valid.

    """
    import msgspec  # noqa: PLC0415 - heavy

    from cluster.cluster_file import ClusterFileError, next_id, replaced  # noqa: PLC0415 - heavy
    from cluster.types import NodeId  # noqa: PLC0415 - heavy

    successor = cluster.successor(old)
    if successor is not None:
        if new_id not in (None, successor):
            raise Failure(
                f"node {old} was replaced by node {successor} already, not by {new_id}: an id is "
                "used once",
                Exit.CONFLICT,
            )
        if cluster.retirement(successor) is not None:
            raise Failure(
                f"node {successor}, which replaced node {old}, was itself replaced by node "
                f"{cluster.successor(successor)}",
                Exit.CONFLICT,
            )
        return Change(cluster, cluster, old, successor)
    try:
        entry = cluster.node(old)
    except ClusterFileError as error:
        raise Failure(str(error), Exit.NOT_FOUND) from error
    new = NodeId(next_id(cluster) if new_id is None else new_id)
    if new < next_id(cluster):
        raise Failure(
            f"--id {new}: an id is used once, and a new one is greater than every one before it: "
            f"leave --id out for {next_id(cluster)}",
            Exit.USAGE,
        )
    try:
        after = replaced(cluster, old, msgspec.structs.replace(entry, id=new, **addresses))
    except ClusterFileError as error:
        raise Failure(str(error), Exit.USAGE) from error
    return Change(cluster, after, old, new)
