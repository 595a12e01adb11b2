"""Started on a full disk: wait until there is room, alive and not ready (ADR 0011; keeps I4, I9).

A node that begins without room would end at its first batch, and whoever restarts it would do so
again and again. So it says once what it waits for, answers `/livez` (it is worth keeping) and
`/readyz` (it cannot serve, and why) on the ops listener alone, and goes on by itself. Nothing of
the data directory is touched meanwhile: another process may have it. But the copies in transit
that an earlier life left there count as free, for they go as soon as the directory is claimed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cluster.datadir import SNAPSHOTS_NAME
from cluster.room import Room, Space, judge, start_bytes
from cluster.snapshot_files import bytes_of_copies
from node.hardening import OTHERS
from node.listener import Listener, attend

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

POLL_S: Final = 0.5


class ToldToStop(Exception):  # noqa: N818 - it says what happened, and nothing is wrong
    """SIGTERM or SIGINT came while the node waited."""


def until_room(directory: Path, ops: socket.socket, say: Callable[[str], None]) -> None:
    """Return when the disk of `directory` (or of where it will be made) has room to start.

    A disk that cannot be looked at, or written at all, is not waited for: opening says why.

    Args:
        directory: the node's data directory.
        ops: the bound ops listener; stays open.
        say: told in one line what is waited for, if anything is.

    Raises:
        ToldToStop: by SIGTERM or SIGINT.

    """
    space = _short(directory)
    if space is None:
        return
    say(
        f"waiting for room: data directory {directory} has {space.disk_free} bytes free of"
        f" {space.disk_total}; make {start_bytes(space)} free, and the node starts by itself"
    )
    asyncio.run(_wait(directory, ops))


def _short(directory: Path) -> Space | None:
    """The space of the disk without the copies in transit, when it is too little to start."""
    copies = bytes_of_copies(directory / SNAPSHOTS_NAME)
    while not os.path.exists(directory) and directory != directory.parent:  # noqa: PTH110 - no raise
        directory = directory.parent
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None
    if disk.f_flag & os.ST_RDONLY:
        return None
    space = Space(0, 1, disk.f_bavail * disk.f_frsize + copies, disk.f_blocks * disk.f_frsize)
    return space if judge(Room.FULL, space) is Room.FULL else None


async def _wait(directory: Path, ops: socket.socket) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)

    async def serve(request: web.BaseRequest) -> web.Response:
        return _answer(request.path, _short(directory))

    server = web.Server(partial(attend, handler=serve), access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=POLL_S)
    await runner.setup()
    # The listener closes what it is given; the node goes on with the original.
    listener = Listener("ops", ops.dup(), None, server, OTHERS["ops"])
    try:
        while _short(directory) is not None:
            try:
                async with asyncio.timeout(POLL_S):
                    await told.wait()
            except TimeoutError:
                continue
            raise ToldToStop
    finally:
        listener.stop()
        await runner.cleanup()


def _answer(path: str, space: Space | None) -> web.Response:
    match path:
        case "/livez":
            return web.Response(text="ok\n")
        case "/readyz":
            free = "room is back" if space is None else f"{space.disk_free} bytes free, too few"
            return web.Response(status=503, text=f"[-] disk: {free} to start\nnot ready\n")
        case _:
            return web.Response(status=503, text="not started: waiting for disk space\n")
