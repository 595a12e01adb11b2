"""Tonight's backup: nobody is there to type anything. For cron, a systemd timer or a job scheduler.

python nightly.py PROFILE PATH...
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from quorumvault.backup import (
    AnotherWriter,
    Backup,
    BackupError,
    KeyUnknown,
    NotEnabled,
    Progress,
    RolledBack,
    SourceError,
    StorageFull,
    StorageUnreachable,
)


class Meter(Progress):
    """Bytes and speed on stderr, at most twice a second."""

    def phase(self, name: str, total: int | None) -> None:
        """Begin anew."""
        self._name, self._total, self._done = name, total, 0
        self._began = self._told = time.monotonic()

    def advance(self, count: int) -> None:
        """Called from several threads; for a meter a lost count does not matter."""
        self._done += count
        now = time.monotonic()
        if now - self._told > 0.5:
            self._told = now
            speed = self._done / (now - self._began) / 1e6
            of = f" of {self._total / 1e6:.0f}" if self._total else ""
            print(f"{self._name}: {self._done / 1e6:.0f}{of} MB, {speed:.0f} MB/s", file=sys.stderr)


def main() -> int:
    """Back up what is new. The profile knows the storage, the key store the key: no vault."""
    profile, *paths = sys.argv[1:]
    with Backup(None, Path(profile)) as backup:
        try:
            made = backup.create(paths, exclude=["*.tmp"], progress=Meter())
        except NotEnabled:
            return 0  # the owner wants none
        except StorageUnreachable as away:
            print(f"Tomorrow again: {away}")  # what was uploaded is used then
            return 3
        except (StorageFull, SourceError, KeyUnknown) as trouble:
            print(f"Please look: {trouble}")  # a notification; the last backup is whole
            return 4
        except (AnotherWriter, RolledBack) as strange:
            print(f"Please look at once: {strange}")
            return 8
        print(
            f"Backup {made.generation}: {made.files} files, {made.bytes} bytes,"
            f" {made.uploaded_bytes} of them uploaded, {made.removed_objects} old objects removed."
        )
        if unfinished := backup.status().unfinished:
            print(f"Open the app when you can: {unfinished}.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BackupError as error:
        sys.exit(str(error))
