"""Which places of this device are backed up, settled before anything is read.

A source stands in the backup under its own name, so two of one name can't both be in it. The
storage folder and the device's profile must not be in a backup: the first would hold itself, the
second holds the key.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from quorumvault.backup import names
from quorumvault.backup.errors import SourceRefused, SourceUnreadable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quorumvault.backup.exclude import Exclude

__all__ = ["Source", "gather", "leave_out", "quoted", "shown"]

_ESCAPES: Final = re.compile(r"(?:\\\\|\\x[0-9a-f]{2})+")  # as `shown` makes them


@dataclass(frozen=True, slots=True)
class Source:
    """One file or folder to back up: the real folder that it lies in, and its name there."""

    parent: bytes
    name: bytes

    @property
    def place(self) -> bytes:
        """Its full path."""
        return os.path.join(self.parent, self.name)  # noqa: PTH118 - bytes


def shown(path: bytes) -> str:
    """A path of this device as it may stand in a message."""
    return names.shown(tuple(path.split(b"/")))


def leave_out(place: str) -> str:
    """The option that leaves out just this place (as `shown`), to be typed into a shell.

    A file's name may come from a stranger: typed as the message says, it must not be a command.
    """
    return f"--exclude {quoted('*'.join(map(glob.escape, _ESCAPES.split(place))))}"


def quoted(text: str) -> str:
    """One word of a shell, always in quotes."""
    return "'" + text.replace("'", "'\\''") + "'"


def gather(
    sources: Sequence[Path], *, exclude: Exclude, keep_out: Sequence[Path] = ()
) -> list[Source]:
    """The sources in the order of their names, each once.

    ``.``, ``..``, a slash at the end and symlinks on the way to a source are resolved; the source
    itself may not be a symlink.

    Args:
        sources: as the owner named them.
        exclude: what stays out; a place to keep out that it excludes does no harm.
        keep_out: folders that must not be in the backup, there already or not.

    Raises:
        SourceRefused: none given, a symlink, two of one name, one inside another, or one that
            holds or lies in a place to keep out.
        SourceUnreadable: not there, or the way to it is closed.

    """
    if not sources:
        raise SourceRefused("nothing to back up: name at least one file or folder")
    found = sorted(
        {_resolve(source) for source in sources}, key=lambda found: (found.name, found.parent)
    )
    for before, after in itertools.pairwise(found):
        if before.name == after.name:
            raise SourceRefused(
                f"{shown(before.place)} and {shown(after.place)} have one name and would be one"
                " in the backup; name a folder that holds both, or rename one"
            )
    for inner in found:
        for outer in found:
            if inner != outer and _lies_in(inner.place, outer.place):
                raise SourceRefused(
                    f"{shown(inner.place)} is in {shown(outer.place)} already; name only one"
                )
    for place in keep_out:
        for source in found:
            _refuse_shared(source, os.fsencode(os.path.realpath(place)), exclude)
    return found


def _resolve(source: Path) -> Source:
    raw = os.fsencode(source)
    try:
        if source.name in {"", ".."}:  # pathlib has dropped "." and slashes at the end
            raw = os.path.realpath(raw, strict=True)
        above, name = os.path.split(raw)
        parent = os.path.realpath(above or b".", strict=True)
        status = os.lstat(raw)
    except FileNotFoundError as error:
        raise SourceUnreadable(f"{shown(raw)} is not there; check the path") from error
    except OSError as error:
        raise SourceUnreadable(f"cannot read {shown(raw)}: {error.strerror}") from error
    if not name:
        raise SourceRefused("the root folder has no name; name the folders in it instead")
    if stat.S_ISLNK(status.st_mode):
        raise SourceRefused(f"{shown(raw)} is a symlink; name what it points to instead")
    return Source(parent, name)


def _lies_in(inner: bytes, outer: bytes) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(b"/") + b"/")


def _refuse_shared(source: Source, place: bytes, exclude: Exclude) -> None:
    """Refuse a source that lies in `place`, or that holds it unless it is excluded."""
    if _lies_in(source.place, place):
        raise SourceRefused(
            f"{shown(source.place)} is in {shown(place)}, which is no part of a backup;"
            " name other files"
        )
    if not _lies_in(place, source.place):
        return
    below = place[len(source.place) :].strip(b"/").split(b"/")
    path: tuple[bytes, ...] = (source.name,)
    for name in below:
        path += (name,)
        if exclude.leaves_out(path, source.parent, folder=True):
            return
    raise SourceRefused(
        f"{shown(source.place)} holds {shown(place)}, which is no part of a backup;"
        f" exclude it: {leave_out(shown(place))}"
    )
