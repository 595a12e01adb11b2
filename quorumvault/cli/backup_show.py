"""How `quorumvault backup` shows what it does and what it found: bars, tables, JSON.

Bars are for a person: on stderr, and only on a terminal. Names of files come from disks and from
the storage, so they are made harmless for a terminal before they are shown.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from quorumvault.backup.errors import BackupError
from quorumvault.cli.backup_exits import Told, exit_code, facts, one_line
from quorumvault.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console
    from rich.progress import Progress, TaskID

PHASES: Final = {
    "look": "Looking",
    "upload": "Uploading",
    "check": "Reading back",
    "clean": "Removing the old",
    "read": "Reading the list",
    "restore": "Restoring",
}
ENOUGH_FOR_SPEED: Final = 1 << 20
SHOW_CURSOR: Final = b"\x1b[?25h\r\n"
UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def say(facts: dict[str, object]) -> None:
    """One JSON object on one line of stdout."""
    sys.stdout.write(json.dumps(facts) + "\n")


def print_line(text: str) -> None:
    """One line of data, harmless for a terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(one_line(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def size(count: float) -> str:
    """Bytes for a person: 512 B, 1.5 MiB."""
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {UNITS[unit]}" if unit == 0 else f"{count:.1f} {UNITS[unit]}"


def moment(seconds: float) -> str:
    """A Unix time as the owner's clock has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return f"@{seconds:.0f}"


def plural(count: int, thing: str) -> str:
    """1 file, 2 files; thousands are set apart."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def speed(count: int, seconds: float) -> str:
    """How fast, for a person, in brackets; nothing for so little that it says nothing."""
    return f" ({size(count / max(seconds, 0.001))}/s)" if count >= ENOUGH_FOR_SPEED else ""


def list_stream(name: str, rows: Iterable[dict[str, object]]) -> None:
    """A JSON object with one array, written row by row: there may be millions.

    Raises:
        Told: the rows broke off; the object says so after those that came.

    """
    between = "{" + json.dumps(name) + ": [\n"
    try:
        for row in rows:
            sys.stdout.write(between + json.dumps(row))
            between = ",\n"
    except BackupError as error:
        if not between.startswith(","):
            raise  # nothing was written yet
        told = {key: value for key, value in facts(error).items() if key != name}
        sys.stdout.write("\n], " + json.dumps(told).removeprefix("{") + "\n")
        raise Told(one_line(str(error)), exit_code(error)) from error
    sys.stdout.write(("" if between.startswith(",") else between) + "\n]}\n")


class Bars:
    """What `Progress` of the library asks for, drawn as one bar after the other.

    Attributes:
        moved: bytes that each phase has moved so far.

    """

    def __init__(self, console: Console) -> None:
        self.moved: dict[str, int] = {}
        self.began = time.monotonic()
        self._lock = threading.Lock()
        self._phase = ""
        self._task: TaskID | None = None
        self._drawn: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            from quorumvault.cli import backup_bars  # noqa: PLC0415 - heavy, and only for a terminal

            self._drawn = backup_bars.drawn(console)

    def __enter__(self) -> Self:
        if self._drawn is not None:
            self._drawn.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn is not None:
            self._drawn.stop()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def phase(self, name: str, total: int | None) -> None:
        """A new phase begins, of so many bytes."""
        with self._lock:
            self._phase = name
            self.moved.setdefault(name, 0)
            if self._drawn is not None:
                if self._task is not None:
                    self._drawn.remove_task(self._task)
                self._task = self._drawn.add_task(PHASES.get(name, name), total=total)

    def advance(self, count: int) -> None:
        """So many bytes more of this phase."""
        with self._lock:
            self.moved[self._phase] = self.moved.get(self._phase, 0) + count
            if self._drawn is not None and self._task is not None:
                self._drawn.advance(self._task, count)


@contextmanager
def stoppable(console: Console) -> Iterator[threading.Event]:
    """Ctrl-C (and SIGTERM) set the event, so that the work ends where it can be taken up again.

    A second Ctrl-C ends the process at once, as a kill does, which all work here survives: a
    thread may wait for minutes for a provider that does not answer. Only in the main thread;
    elsewhere nothing is caught.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(_number: int, _frame: object) -> None:
        # Straight to the descriptor: the console may be in the middle of a line.
        if stop.is_set():
            if console.is_terminal:
                os.write(2, SHOW_CURSOR)  # the bars hide it
            os._exit(Exit.CANCELLED)
        stop.set()
        if console.is_terminal:
            os.write(2, b"\r\nStopping ... (once more: at once)\r\n")

    former = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


def plain(value: object) -> object:
    """A result of the library as JSON has it: bytes in hexadecimal, dataclasses as objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def facts_of(value: object) -> dict[str, object]:
    """The same for a dataclass, to be added to."""
    told = plain(value)
    if not isinstance(told, dict):
        raise TypeError(f"{type(value).__name__} is no dataclass")
    return told
