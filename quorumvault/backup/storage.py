"""Where the sealed objects go: any folder or fsspec URL, behind one small set of calls.

What the rest of the package relies on:

1. An object that `put` or `get`, and then `settle`, returned for is there after a power cut.
2. An object that was whole before a failed or killed `put` of the same name still is, and no part
   is seen, wherever the provider replaces objects in one go (a folder, S3). A WebDAV server may
   keep half an object under its final name: the size, asked after each write, and the read-back
   before the manifest is written find it.
3. `size` and `get` ask for the one object by its name; only `list` may lag behind.
4. Whatever goes wrong is a `StorageError` with a sentence that shows no secret, or `Damaged`.

docs/storage.md says which URL is for which provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self

from quorumvault.backup.storage_folder import FolderStore
from quorumvault.backup.storage_names import (
    check_name,
    check_prefix,
    is_name,
    parse_options,
    place,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Mapping, Sequence

    from quorumvault.backup.storage_names import Place

__all__ = ["Patience", "Storage", "Stored", "parse_options"]


@dataclass(frozen=True, slots=True)
class Stored:
    """One object of a listing.

    Attributes:
        name: relative to the storage's URL, with `/` between folders.
        size: in bytes; -1 if the provider's listing does not tell.

    """

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a provider is waited for.

    Attributes:
        call_s: seconds for one request, plus what its bytes take at `bytes_per_s`.
        tries: how often in all, when the error is one that may pass.
        pause_s: seconds before the second try; doubled for each further one, at most 15, and
            shortened at random by up to half so that many devices don't come back together.

    """

    call_s: float = 60.0
    bytes_per_s: float = 32_768.0
    tries: int = 5
    pause_s: float = 0.5


class _Store(Protocol):
    def walk(self, folder: str, start: str) -> Iterator[tuple[str, int]]: ...
    def folders(self, start: str) -> list[str]: ...
    def get(self, name: str, limit: int) -> bytes: ...
    def open(self, name: str) -> BinaryIO: ...
    def size(self, name: str) -> int | None: ...
    def put(self, name: str, data: bytes | bytearray | memoryview) -> None: ...
    def put_from(self, name: str, file: BinaryIO, size: int) -> None: ...
    def settle(self) -> None: ...
    def delete(self, names: Sequence[str]) -> None: ...
    def remove_folder(self, folder: str) -> None: ...
    def sweep(self, folder: str) -> int: ...
    def close(self) -> None: ...


class Storage:
    """A place for objects; every call may come from several threads at once.

    Args:
        url: a folder's path, `file:///…`, or a URL such as `s3://bucket/phone`.
        options: for the provider's package, such as `endpoint_url` for S3.
        patience: how long a provider is waited for.

    Attributes:
        shown: the URL without credentials.
        folder: the folder that it is on this device; None for all other providers.

    Raises:
        StorageError: the URL can't be a storage, or its package is not installed.

    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, object] | None = None,
        *,
        patience: Patience | None = None,
    ) -> None:
        found = place(url, options)
        self.shown = found.shown
        self.folder = Path(found.address) if found.protocol == "folder" else None
        self._store: _Store = (
            FolderStore(found)
            if found.protocol == "folder"
            else _remote(found, patience or Patience())
        )

    def __repr__(self) -> str:
        return f"Storage({self.shown!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def expect(self, key_folder: str) -> None:
        """To be asked before writing to a storage that has backups of this device.

        A mount point without its disk looks like a new folder; a bucket can't be taken for one.

        Raises:
            StorageUnreachable: it is a folder, and not there, or the key's folder is not in it.

        """
        if isinstance(self._store, FolderStore):
            self._store.expect(key_folder)

    def list(self, prefix: str) -> Iterator[Stored]:
        """Every object whose name begins with the prefix, in no order; no prefix, no objects.

        A listing may lack what was just put and show what was just removed.
        """
        folder, start = check_prefix(prefix)
        return (
            Stored(name, size) for name, size in self._store.walk(folder, start) if is_name(name)
        )

    def folders(self, start: str = "") -> builtins.list[str]:
        """The names of the folders directly in the storage that begin so, sorted."""
        return [name for name in self._store.folders(start) if is_name(name)]

    def put(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Store an object whole or not at all; durable when `settle` has returned.

        Raises:
            StorageFull, StorageDenied, StorageUnreachable, StorageError: it is not stored, or it
                is not known whether it is.

        """
        self._store.put(check_name(name), data)

    def put_from(self, name: str, file: BinaryIO, size: int) -> None:
        """Like `put`, with the next `size` bytes of a seekable file and little memory."""
        self._store.put_from(check_name(name), file, size)

    def get(self, name: str, limit: int) -> bytes:
        """The whole object.

        Raises:
            NotThere: no such object.
            Damaged: it has more than `limit` bytes; no more than that was read.
            StorageError: the provider refused or failed.

        """
        return self._store.get(check_name(name), limit)

    def open(self, name: str) -> BinaryIO:
        """The object as a stream that reads ahead by a few MiB at most; errors as for `get`."""
        return self._store.open(check_name(name))

    def size(self, name: str) -> int | None:
        """How many bytes the object has, None if it is not there; asked of the object itself."""
        return self._store.size(check_name(name))

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; absent ones are fine.

        A folder on this device loses folders that are empty then, too; elsewhere they stay until
        `remove_folder`.
        """
        if names:
            self._store.delete([check_name(name) for name in names])

    def remove_folder(self, name: str) -> None:
        """Remove a folder of which nothing is wanted any more, and whose objects were deleted.

        It stays if a listing still shows something in it. An object that the listing does not
        show may be removed with it: never for the folder of a backup that counts.
        """
        self._store.remove_folder(check_name(name))

    def sweep(self, prefix: str = "") -> int:
        """Remove what killed writes left under a folder; how many files that were."""
        folder, start = check_prefix(prefix)
        return self._store.sweep("/".join(part for part in (folder, start) if part))

    def settle(self) -> None:
        """Return when all that was put, read or deleted before would outlive a power cut.

        What was read counts because a killed run may have put it and not settled.

        Raises:
            StorageError: the disk failed or is full; what was put may be lost.

        """
        self._store.settle()

    def close(self) -> None:
        """Close the connections."""
        self._store.close()


def _remote(found: Place, patience: Patience) -> _Store:
    from quorumvault.backup.storage_remote import RemoteStore  # noqa: PLC0415 - a folder needs none

    return RemoteStore(found, patience)
