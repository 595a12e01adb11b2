"""How long work tells what it is at: phases by name, then bytes as they are done."""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["SILENT", "Progress"]


class Progress(Protocol):
    """Whoever shows progress. Both may be called from any thread; neither may raise."""

    def phase(self, name: str, total: int | None) -> None:
        """A new phase starts: look, upload, check, clean, read or restore; `total` is in bytes."""

    def advance(self, count: int) -> None:
        """`count` more bytes of the present phase are done."""


class _Silent:
    """Shows nothing."""

    def phase(self, name: str, total: int | None) -> None:
        """Show nothing."""

    def advance(self, count: int) -> None:
        """Show nothing."""


SILENT: Final[Progress] = _Silent()
