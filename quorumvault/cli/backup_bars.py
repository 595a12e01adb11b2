"""The bars of `quorumvault backup` on a terminal; elsewhere nothing imports this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from quorumvault.cli.backup_show import size

if TYPE_CHECKING:
    from rich.console import Console

NARROW: Final = 70
"""Columns below which size and speed are left out, so that the bar and the time stay."""


def drawn(console: Console) -> Progress:
    """Bars that go when they are over."""
    return Progress(*_columns(console.width), console=console, transient=True)


def _columns(width: int) -> list[ProgressColumn]:
    first: list[ProgressColumn] = [SpinnerColumn("line"), TextColumn("{task.description}")]
    bar: list[ProgressColumn] = [BarColumn(bar_width=None), TaskProgressColumn()]
    if width < NARROW:
        return [*first, *bar, TimeRemainingColumn(compact=True)]
    return [*first, *bar, _Figures(), TimeRemainingColumn()]


class _Figures(ProgressColumn):
    """How much of how much, and how fast; nothing where the phase cannot know it."""

    def render(self, task: Task) -> Text:
        if not task.total:
            return Text("")
        pace = task.finished_speed or task.speed
        shown = f"{size(task.completed)} of {size(task.total)}"
        return Text(shown if pace is None else f"{shown}, {size(pace)}/s")
