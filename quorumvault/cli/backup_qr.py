"""The 64 digits as a QR code in a terminal: half blocks, two rows of the code in one line.

A scanner wants dark on light. Where colours are allowed they say so; without, light is drawn and
dark left out, which is right on the dark terminals that most people have.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

QUIET: Final = 2
"""Modules around the code; the standard has 4, scanners take 2, and 24 lines are few."""
HALVES: Final = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
"""(upper, lower) module, 1 is dark; what is drawn is light."""
BLACK_ON_WHITE: Final = "\x1b[97;40m"
PLAIN: Final = "\x1b[0m"


def qr_lines(digits: str, terminal: Console) -> list[str]:
    """The code, line by line; a sentence in its place where the terminal cannot show it."""
    import segno  # noqa: PLC0415 - only for those who keep the key themselves

    # Capitals make the code smaller: its alphabet has no small letters.
    text = "".join(digits.split()).upper()
    rows = [list(row) for row in segno.make(text, error="l", micro=False).matrix_iter(border=QUIET)]
    if len(rows[0]) > terminal.width:
        return _said("The terminal is too narrow for their QR code.", terminal)
    if not _can_show(terminal.encoding):
        return _said(
            "This terminal's character set has no blocks to draw their QR code with.", terminal
        )
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    coloured = terminal.is_terminal and terminal.color_system is not None and not terminal.no_color
    lines = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        line = "".join(HALVES[(int(a), int(b))] for a, b in zip(upper, lower, strict=True))
        lines.append(f"{BLACK_ON_WHITE}{line}{PLAIN}" if coloured else line)
    return [*lines, ""]


def _can_show(encoding: str) -> bool:
    try:
        "█▀▄".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _said(why: str, terminal: Console) -> list[str]:
    """Instead of the code."""
    return [*textwrap.wrap(f"({why})", terminal.width), ""]
