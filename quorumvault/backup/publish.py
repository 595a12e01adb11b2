"""The one step that makes a backup: its manifest, stored last and read back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from quorumvault.backup.errors import AnotherWriter, Damaged, NotThere, StorageError
from quorumvault.backup.manifest import read_manifest
from quorumvault.backup.readback import missing_chunks
from quorumvault.backup.removal import refuse_rival

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Mapping

    from quorumvault.backup.holdings import ManifestName
    from quorumvault.backup.keys import Keys
    from quorumvault.backup.storage import Storage

__all__ = ["publish"]


def publish(
    storage: Storage,
    keys: Keys,
    own: ManifestName,
    spool: BinaryIO,
    size: int,
    *,
    seen: Collection[ManifestName],
    doubtful: Mapping[bytes, int],
    workers: int,
    stop: threading.Event,
) -> None:
    """Store the manifest, read it back, and look for what other devices did meanwhile.

    Whatever fails, the manifest is taken away again if that is possible.

    Args:
        storage: where it goes.
        keys: of the backup key.
        own: which manifest it is.
        spool: the sealed manifest, from its start.
        size: of it, in bytes.
        seen: the manifests of the first look.
        doubtful: chunks of the backup, with the lengths of their contents, that the newest backup
            before did not have. Another device that still cleans up after that one may have
            removed them since they were read back. It looks for new manifests before every few
            objects, so from now on it takes no more.
        workers: how many threads.
        stop: set to stop the work.

    Raises:
        AnotherWriter: another device wrote a backup, or removed what this one uses.
        Damaged: the manifest did not come back, twice.
        StorageError: the provider refused or failed.
        Cancelled: `stop` is set.

    """
    try:
        if not any(_stored_whole(storage, keys, own, spool, size) for _ in range(2)):
            _refuse_unstored(storage, own)
        refuse_rival(storage, keys, own, seen)
        if missing_chunks(storage, keys, doubtful, workers=workers, stop=stop):
            _refuse_taken()
    except BaseException:
        with contextlib.suppress(StorageError):
            storage.delete([own.name])
            storage.settle()
        raise


def _stored_whole(
    storage: Storage, keys: Keys, own: ManifestName, spool: BinaryIO, size: int
) -> bool:
    """Store the manifest; whether all of it comes back, and opens."""
    storage.settle()  # chunks that a killed run has left, and that were read back since
    spool.seek(0)
    storage.put_from(own.name, spool, size)
    storage.settle()
    try:
        with storage.open(own.name) as source:
            for _ in read_manifest(keys, own.generation, own.backup_id, source):
                pass
    except (Damaged, NotThere):
        return False
    return True


def _refuse_unstored(storage: Storage, own: ManifestName) -> NoReturn:
    raise Damaged(
        "the list of files was stored twice and is missing or damaged when it is read back"
        f" ({own.name}); nothing older was removed."
        f" Check the storage {storage.shown}, then run this again",
        objects=(own.name,),
    )


def _refuse_taken() -> NoReturn:
    raise AnotherWriter(
        "another device with the same key removed objects while this one used them; nothing older"
        " was removed. Let one device make backups, and run this again"
    )
