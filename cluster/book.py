"""Going from one book (cluster.json, as a Shape) to a newer one.

The book says who the members are; everything else about a vault never changes. So a newer book may
only retire members and name their successors, and what was retired stays so: an id that voted once
must never vote again for another disk (I8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cluster.types import check

if TYPE_CHECKING:
    from cluster.api import Shape
    from cluster.types import NodeId


def retirement(node: int, successor: int, revision: int) -> str:
    """The one line for whoever runs a node that was replaced; also the node ends with it."""
    return (
        f"node {node} was replaced by node {successor} (revision {revision} of cluster.json): shut"
        " this one down and destroy its HSM keys"
    )


def is_newer(old: Shape, new: Shape) -> bool:
    """True when `new` goes on from `old`, False when it is the same book.

    Raises:
        InvariantError: it is neither: another vault or node, older, or of another history.

    """
    if old == new:
        return False
    members = {"seats": new.seats, "retired": new.retired, "revision": new.revision}
    check(
        msgspec.structs.replace(old, **members) == new,
        "cluster.json: more than the members differs from the one that this node runs with: bring"
        " back the vault's own",
    )
    check(
        new.revision > old.revision and new.retired.items() >= old.retired.items(),
        f"cluster.json: revision {new.revision} does not go on from revision {old.revision}, which"
        " this node runs with: take the newest one",
    )
    check(
        not new.retired.keys() & new.seats.keys()
        and sorted(new.seats.values()) == sorted(old.seats.values()),
        f"cluster.json: revision {new.revision} has not every seat once, or a replaced node among"
        " the members: take the one that 'quorumvault member replace' wrote",
    )
    return True


def went_and_came(old: Shape, new: Shape) -> tuple[list[NodeId], list[NodeId]]:
    """Members of `old` that are none any more, and those that are new; ascending."""
    return sorted(old.seats.keys() - new.seats.keys()), sorted(new.seats.keys() - old.seats.keys())
