"""Power loss and SoftHSM: it writes a token's objects as files and never syncs them.

A stamp must be on disk before the older one is destroyed, else a power cut can take both (I4, I9).
Hardware keeps what it acknowledged; for SoftHSM the token's files are synced here, from outside.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hsm.errors import HsmAway

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY_SETTING: Final = "directories.tokendir"


def sync_token_files(module: Path) -> None:
    """Sync every file of every SoftHSM token; nothing to do for another module.

    Raises:
        HsmAway: a file could not be synced; what was written may not survive a power cut.

    """
    if "softhsm" not in module.name:
        return
    try:
        for path in _files(softhsm_token_dir()):
            _sync(path)
    except OSError as error:
        raise HsmAway(f"syncing {error.filename or 'the token'}: {error.strerror}") from error


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # destroyed meanwhile: another token's stamp was replaced
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def softhsm_token_dir() -> Path:
    """Where SoftHSM keeps its tokens, as its own configuration says; raises OSError without one."""
    text = _configuration().read_text(encoding="utf-8")
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == _DIRECTORY_SETTING:
            return Path(value.strip())
    raise FileNotFoundError(2, f"no {_DIRECTORY_SETTING} in SoftHSM's configuration")


def _configuration() -> Path:
    """SoftHSM's own order of looking for its configuration."""
    chosen = os.environ.get("SOFTHSM2_CONF")
    if chosen:
        return Path(chosen)
    user = Path.home() / ".config" / "softhsm2" / "softhsm2.conf"
    return user if user.exists() else Path("/etc/softhsm/softhsm2.conf")


def _files(token_dir: Path) -> Iterator[Path]:
    for token in token_dir.iterdir():
        if token.is_dir():
            yield from (path for path in token.iterdir() if path.suffix != ".lock")
            yield token
    yield token_dir
