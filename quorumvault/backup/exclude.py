"""What the owner leaves out of a backup, by patterns as in a shell.

- ``*.tmp`` (no slash): a file or folder of that name, wherever it is.
- ``phone/cache/*`` (a slash inside): the path as it will stand in the backup, from the name of the
  source on. ``**`` stands for any number of folders, also none.
- ``/home/ada/phone/cache`` (a slash first): the full path on this device.
- A slash at the end: only a folder. What is in an excluded folder is excluded with it.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quorumvault.backup.errors import SourceRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Exclude"]

_Segment = re.Pattern[str] | None
_ANY_FOLDERS: Final = None


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One pattern, ready to be asked."""

    segments: tuple[_Segment, ...]
    absolute: bool
    anywhere: bool
    folders_only: bool


class Exclude:
    """All patterns of one call.

    Raises:
        SourceRefused: a pattern is empty.

    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = tuple(_read(pattern) for pattern in patterns)

    def leaves_out(self, path: tuple[bytes, ...], parent: bytes, *, folder: bool) -> bool:
        """Whether `path` (as in the backup) stays out; `parent` is where its source lies.

        Only the last name is looked at with what leads to it: whoever walks a tree asks for each
        folder before what is in it.
        """
        for pattern in self._patterns:
            if pattern.folders_only and not folder:
                continue
            if pattern.anywhere:
                names = [os.fsdecode(path[-1])]
            elif pattern.absolute:
                above = [name for name in os.fsdecode(parent).split("/") if name]
                names = above + [os.fsdecode(name) for name in path]
            else:
                names = [os.fsdecode(name) for name in path]
            if _matches(pattern.segments, names):
                return True
        return False


def _read(pattern: str) -> _Pattern:
    names = [name for name in pattern.split("/") if name not in {"", "."}]
    if not names:
        raise SourceRefused(f"the exclude pattern {pattern!r} names nothing; leave it away")
    absolute = pattern.startswith("/")
    return _Pattern(
        segments=tuple(
            _ANY_FOLDERS if name == "**" else re.compile(fnmatch.translate(name)) for name in names
        ),
        absolute=absolute,
        anywhere=not absolute and len(names) == 1,
        folders_only=pattern.endswith("/"),
    )


def _matches(segments: tuple[_Segment, ...], names: list[str]) -> bool:
    """Whether the segments cover all names: one each, but any number for ``**``."""
    reached = {0}  # how many segments may be used up before the next name
    for name in names:
        reached = _past_any(segments, reached)
        following = set()
        for at in reached:
            if at == len(segments):
                continue
            segment = segments[at]
            if segment is _ANY_FOLDERS:
                following.add(at)
            elif segment.match(name):
                following.add(at + 1)
        reached = following
    return len(segments) in _past_any(segments, reached)


def _past_any(segments: tuple[_Segment, ...], reached: set[int]) -> set[int]:
    past = set(reached)
    for at in sorted(reached):
        step = at
        while step < len(segments) and segments[step] is _ANY_FOLDERS:
            step += 1
            past.add(step)
    return past
