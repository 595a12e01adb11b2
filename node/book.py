"""The cluster file of a running node ("the book"): judged, kept on disk, then obeyed.

An operator hands every node each new revision. A node takes whatever goes on from what it has,
however many replacements later it is, and nothing else: not another vault's, not an older one, not
one whose history parts from its own. What it takes is on disk, fsynced, before it is obeyed, so
that a restart never goes back to who was a member before (I8). Nothing in it touches a count (I6).
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from cluster.cluster_file import extends, parse, same_vault, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster.cluster_file import ClusterFile


class Standing(StrEnum):
    """How an offered cluster file stands to the present one."""

    SAME = "same"
    NEWER = "newer"
    OLDER = "older"
    PARTED = "parted"
    FOREIGN = "foreign"


class Conflict(Exception):  # noqa: N818 - a refusal, not a fault
    """What was offered does not go on from what this node has; one line with the next step."""


def standing(ours: ClusterFile, offered: ClusterFile) -> Standing:
    """How `offered` stands to `ours`."""
    if not same_vault(ours, offered):
        return Standing.FOREIGN
    if offered == ours:
        return Standing.SAME
    if extends(offered, ours):
        return Standing.NEWER
    return Standing.OLDER if extends(ours, offered) else Standing.PARTED


class Book:
    """A node's cluster file; `obey(cluster)` is called once per newer one, on the loop."""

    def __init__(
        self, cluster: ClusterFile, path: Path, obey: Callable[[ClusterFile], None]
    ) -> None:
        self.current = cluster
        self._path = path
        self._obey = obey
        self._writing = asyncio.Lock()
        self._keeping: set[asyncio.Task[bool]] = set()

    async def take(self, data: bytes) -> bool:
        """Keep an offered cluster file; False when it is the present one, and nothing changed.

        It is durable when this returns; `obey_now` is the caller's next step. A caller that is
        cancelled meanwhile stops nothing: a write that goes on in its thread must end before the
        next one, or an older file could come to lie over a newer one. It is obeyed then, too.

        Raises:
            ClusterFileError: it is no cluster file, or cannot be written.
            Conflict: it does not go on from the present one.

        """
        keeping = asyncio.create_task(self._keep(parse(data, "offered")), name="cluster file")
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        try:
            return await asyncio.shield(keeping)
        except asyncio.CancelledError:
            keeping.add_done_callback(self._obey_kept)
            raise

    def _obey_kept(self, keeping: asyncio.Task[bool]) -> None:
        if not keeping.cancelled() and keeping.exception() is None and keeping.result():
            self.obey_now()

    async def _keep(self, offered: ClusterFile) -> bool:
        async with self._writing:
            match standing(self.current, offered):
                case Standing.SAME:
                    return False
                case Standing.NEWER:
                    await asyncio.get_running_loop().run_in_executor(
                        None, save, self._path, offered
                    )
                    self.current = offered
                    return True
                case Standing.OLDER:
                    raise Conflict(
                        f"this node has revision {self.current.revision}, and that is the older "
                        f"revision {offered.revision}: bring the operator's directory up to date"
                    )
                case Standing.PARTED:
                    raise Conflict(
                        f"revision {offered.revision} does not go on from revision "
                        f"{self.current.revision} of this node: two operators replaced nodes from "
                        "two copies of the directory; use the copy that the nodes follow"
                    )
                case Standing.FOREIGN:
                    raise Conflict(
                        "that is another vault's cluster file (only members ever change): use the "
                        "directory of 'quorumvault cluster create' of this vault"
                    )
                case never:
                    assert_never(never)

    def obey_now(self) -> None:
        """Have the node follow the present file; it ends here if it was replaced."""
        self._obey(self.current)
