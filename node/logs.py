"""Structured logs: one JSON object a line, to standard error or a file (keeps I11).

What may be logged is a matter of the call sites, and they log names of routes, codes, counts and
node ids; never a body, token, account name, record id or element. A last guard drops any value
that is bytes. One line per request at level info; everything else is rare.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import msgspec
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
OWN_LOGGERS: Final = "quorumvault."
"""The cluster package's loggers: their arguments are node ids and reasons."""
_encoder = msgspec.json.Encoder(enc_hook=str)


def _without_bytes(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, bytes | bytearray | memoryview):
            event[key] = "(bytes)"
    return event


class Threshold:
    """The level below which nothing is logged, here and by libraries."""

    def __init__(self) -> None:
        self._level = LEVELS["info"]

    def set(self, level: str) -> None:
        """A key of LEVELS."""
        self._level = LEVELS[level]

    def __call__(
        self, _logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """As a processor of structlog."""
        if LEVELS.get(method, logging.ERROR) < self._level:
            raise structlog.DropEvent
        return event


threshold: Final = Threshold()
"""Of this process, as its logging is; a reload sets it."""


def _render(_logger: object, _method: str, event: MutableMapping[str, Any]) -> bytes:
    return _encoder.encode(event)


def configure(level: str, stream: BinaryIO, node: int) -> structlog.typing.FilteringBoundLogger:
    """Set up logging for this process and return the node's logger.

    The standard library's warnings (aiohttp, asyncio) come out in the same form.

    """
    threshold.set(level)
    structlog.configure(
        processors=[
            threshold,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="t"),
            structlog.processors.format_exc_info,
            _without_bytes,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", _Lossy(stream))),
        cache_logger_on_first_use=True,
    )
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(node=node)
    root = logging.getLogger()
    root.handlers = [_Bridge(logger)]
    root.setLevel(logging.WARNING)
    return logger


class _Lossy:
    """A line that the disk does not take is lost; whoever logs goes on (a log is no promise)."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        """As the stream's."""
        with contextlib.suppress(OSError):
            self._stream.write(data)

    def flush(self) -> None:
        """As the stream's."""
        with contextlib.suppress(OSError):
            self._stream.flush()


class Throttle:
    """So many lines a second; how many were left out is told with the next one."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._second = -1
        self._told = 0
        self._left_out = 0

    def admit(self) -> int | None:
        """None: not this one. Else how many were left out since the last."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._told = second, 0
        if self._told >= self._most:
            self._left_out += 1
            return None
        self._told += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class _Bridge(logging.Handler):
    """Passes on what libraries log; of others the bare message, arguments may hold anything."""

    def __init__(self, logger: structlog.typing.FilteringBoundLogger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        ours = record.name.startswith(OWN_LOGGERS)
        text = record.getMessage() if ours else str(record.msg)
        self._logger.warning("library", source=record.name, text=text, error=kind)
