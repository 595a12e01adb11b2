"""One node's process: harden, open, serve, reload on SIGHUP, and on SIGTERM drain in good order.

`run` is what `quorumvault node run` calls; it returns the exit code of design section 8. What runs
in between is a `Node`.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, BinaryIO

from node import logs
from node.assembly import WrongVaultKey
from node.hardening import harden
from node.node import Node
from node.start import (
    EXIT_CONFIGURATION,
    EXIT_CONFLICT,
    EXIT_OK,
    Opened,
    StartRefused,
    open_node,
)

if TYPE_CHECKING:
    from pathlib import Path

    import structlog


def run(config_path: Path) -> int:
    """Run one node until it is told to stop; returns the exit code."""
    hung_up: list[int] = []  # a reload asked for while the node starts: done when it has
    signal.signal(signal.SIGHUP, lambda number, _frame: hung_up.append(number))
    try:
        harden()
        opened = open_node(config_path, _say)
    except StartRefused as refused:
        return _refuse(str(refused), refused.exit_code)
    except OSError as error:
        return _refuse(str(error), EXIT_CONFIGURATION)
    with opened.closing:
        try:
            path = opened.config.log_file
            stream: BinaryIO = sys.stderr.buffer
            if path is not None:
                stream = opened.closing.enter_context(path.open("ab"))
            log = logs.configure(opened.config.log_level, stream, opened.config.node_id)
        except OSError as error:
            return _refuse(f"log.file: {error}; correct the path", EXIT_CONFIGURATION)
        try:
            asyncio.run(_serve(opened, log, hung_up))
        except WrongVaultKey as error:
            return _refuse(str(error), EXIT_CONFLICT)
        except OSError as error:
            return _refuse(str(error), EXIT_CONFIGURATION)
    return EXIT_OK


def _refuse(line: str, exit_code: int) -> int:
    _say(line)
    return exit_code


def _say(line: str) -> None:
    with suppress(OSError):  # the exit code is told in any case
        sys.stderr.write(f"quorumvault: {line}\n")
        sys.stderr.flush()


async def _serve(
    opened: Opened, log: structlog.typing.FilteringBoundLogger, hung_up: list[int]
) -> None:
    """Everything from the first socket to the last."""
    node = Node(opened, log)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(node.on_loop_exception)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop_soon)
    loop.add_signal_handler(signal.SIGHUP, node.reload_soon)
    if hung_up:
        node.reload_soon()
    async with AsyncExitStack() as closing:
        await node.start(closing)
        gc.collect()
        gc.freeze()  # what lives from the start on is not looked at again
        await node.until_told()
        await node.drain()
    log.info("stopped")
