"""Files that are only copies: whether the disk has room for one more (ADR 0011).

Snapshots and ledger rows travel as files. Each needs its own size several times over, and what is
on its way already has not taken all of its room yet; so it is counted, not only looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.limits import SNAPSHOT_SPACE

if TYPE_CHECKING:
    from cluster.core import Core


def has_room_for(core: Core, size: int) -> bool:
    """A file of `size` bytes may come in beside those on their way."""
    coming = sum(core.incoming.values())
    return (coming + size) * SNAPSHOT_SPACE <= core.ports.files.free_bytes()


def forget_incoming(core: Core, file: str) -> None:
    """It is used, or not wanted any more."""
    core.incoming.pop(file, None)
    core.ports.files.remove(file)
