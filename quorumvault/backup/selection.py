"""Which part of a backup is wanted: all of it, or the files and folders that an owner names."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from quorumvault.backup.errors import NotInBackup
from quorumvault.backup.manifest_frames import File, Folder
from quorumvault.backup.names import readings, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quorumvault.backup.manifest_frames import Frame, Path

__all__ = ["Selection"]

NEAR: Final = 3  # names offered for one that is unknown


class Selection:
    """Tells for each path whether it is wanted; remembers which wishes came true."""

    def __init__(self, only: Sequence[str]) -> None:
        """Want everything, or `only` these paths as `contents` shows them, with all in them.

        Raises:
            NotInBackup: one of them is no path.

        """
        self._wishes = [(text, readings(text)) for text in only]
        for text, paths in self._wishes:
            if not all(paths):
                raise NotInBackup(f"{text!r} names no file or folder of a backup")
        self._wanted = {path for _, paths in self._wishes for path in paths}
        self._above = {path[:length] for path in self._wanted for length in range(1, len(path))}
        self._lengths = sorted({len(path) for path in self._wanted})
        self._met: set[Path] = set()

    @property
    def everything(self) -> bool:
        """Nothing was named, so all is wanted."""
        return not self._wishes

    @property
    def paths(self) -> tuple[Path, ...]:
        """All readings of what was named, sorted."""
        return tuple(sorted(self._wanted))

    def takes(self, frame: File | Folder) -> bool:
        """Whether it is wanted; folders above what is wanted are."""
        if not self._wishes:
            return True
        path = frame.path
        if path in self._wanted:
            self._met.add(path)
            return True
        if isinstance(frame, Folder) and path in self._above:
            return True
        return any(path[:length] in self._wanted for length in self._lengths if length < len(path))

    def unmet(self) -> list[str]:
        """What was named and did not come, in the owner's words."""
        return [text for text, paths in self._wishes if self._met.isdisjoint(paths)]

    def explain(self, frames: Iterable[Frame]) -> NotInBackup:
        """The error for what is not in the backup, with names of it that are near."""
        unmet = self.unmet()
        wish = unmet[0]
        near = _near(wish, frames)
        more = f" (and {len(unmet) - 1} more)" if len(unmet) > 1 else ""
        hint = f"; near it are {', '.join(near)}" if near else ""
        return NotInBackup(
            f"the backup holds no file or folder {wish}{more}{hint}. All names:"
            " `quorumvault backup list --files`"
        )


def _near(wish: str, frames: Iterable[Frame]) -> list[str]:
    """The most similar paths; one with the same last name counts as most similar."""
    last = wish.rstrip("/").rpartition("/")[2]
    found: list[tuple[float, str]] = []
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(wish)
    for frame in frames:
        if not isinstance(frame, File | Folder):
            continue
        path = shown(frame.path)
        matcher.set_seq1(path)
        if path.rpartition("/")[2].casefold() == last.casefold():
            score = 1.0
        elif matcher.real_quick_ratio() < 0.6 or matcher.quick_ratio() < 0.6:
            continue
        else:
            score = matcher.ratio()
        if score >= 0.6:
            found = sorted([*found, (-score, path)])[:NEAR]
    return [path for _, path in found]
