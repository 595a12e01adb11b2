"""A file without a name for a manifest that is not stored yet: sealed, gone with the process."""

from __future__ import annotations

import contextlib
import errno
import tempfile
from typing import TYPE_CHECKING, BinaryIO, Final

from quorumvault.backup.errors import NoSpace

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["room", "spooled"]

_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}


@contextlib.contextmanager
def room() -> Iterator[None]:
    """Say where room is lacking when such a file can't be written.

    Raises:
        NoSpace: in place of the system's error.

    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise NoSpace(
            f"cannot write a temporary file in {tempfile.gettempdir()}: {error.strerror};"
            " make room there, or set TMPDIR to another folder"
        ) from error


@contextlib.contextmanager
def spooled() -> Iterator[BinaryIO]:
    """Such a file, empty.

    Raises:
        NoSpace: the folder for temporary files has none.

    """
    with room():
        spool = tempfile.TemporaryFile(prefix="quorumvault-")  # noqa: SIM115 - closed below
    with spool:
        yield spool
