"""A person at a terminal: the real command on a pseudo-terminal, typed at when it asks."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import Self

STARTER = (
    "import fcntl, os, sys, termios;"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0);"  # so that Ctrl-C reaches it, as on a real one
    "os.execv(sys.executable, [sys.executable, '-m', 'quorumvault.cli', *sys.argv[1:]])"
)
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
CTRL_C = "\x03"


class Terminal:
    """One command; `screen` is all that it has shown, without colours and movements."""

    def __init__(self, *arguments: str, columns: int = 100, **environment: str) -> None:
        self.arguments = arguments
        self._raw = b""
        self._seen = 0
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        own = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
        self._process = subprocess.Popen(
            [sys.executable, "-c", STARTER, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**own, "TERM": "xterm-256color", **environment},
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def raw(self) -> str:
        return self._raw.decode("utf-8", errors="replace")

    @property
    def screen(self) -> str:
        return ESCAPE.sub("", self.raw).replace("\r\n", "\n")

    def _read(self, end: float) -> bool:
        """Take in what comes; False at its end."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"nothing came in time; the screen:\n{self.screen}"
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other side open any more
            return False
        self._raw += data
        return bool(data)

    def expect(self, text: str, seconds: float = 30.0) -> str:
        """Wait until it shows `text` after what was waited for before; all up to there."""
        end = time.monotonic() + seconds
        while text not in self.screen[self._seen :]:
            assert self._read(end), f"it ended without {text!r}; the screen:\n{self.screen}"
        before = self._seen
        self._seen = self.screen.index(text, before) + len(text)
        return self.screen[before : self._seen]

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._master, text.encode() + b"\n")

    def press(self, key: str) -> None:
        os.write(self._master, key.encode())

    def hidden(self, question: str, text: str) -> None:
        """Type a line once the question stands there and nothing is echoed any more."""
        self.expect(question)
        end = time.monotonic() + 30
        while termios.tcgetattr(self._master)[3] & termios.ECHO:
            assert time.monotonic() < end, "what is typed is shown"
            os.sched_yield()
        self.type(text)

    def end(self, seconds: float = 30.0) -> int:
        """Wait for its end; the exit code."""
        end = time.monotonic() + seconds
        while self._read(end):
            pass
        return self._process.wait(seconds)
