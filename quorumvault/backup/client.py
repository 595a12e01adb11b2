"""`Backup`: everything that an app needs for its user's backups, one object per device profile.

    with Backup("s3://bucket/alice", Path("profile"), vault=open_vault) as backup:
        print(backup.enable_with_password("cobalt ferry underneath nine").warning)
        backup.create([Path("Messages"), Path("Photos")])

The key's life is `keeper`'s, the bytes are `create`'s and `restore`'s; here they meet, under the
profile's lock. `AsyncBackup` (client_async.py) has the same methods for an event loop.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from quorumvault.backup import show
from quorumvault.backup.client_key import KeyClient, compare_typed, password_bytes
from quorumvault.backup.create import Check, create
from quorumvault.backup.keys import Keys
from quorumvault.backup.progress import SILENT
from quorumvault.backup.restore import restore
from quorumvault.backup.verify import verify
from quorumvault.backup.work import NewKey, asks_vault

if TYPE_CHECKING:
    import builtins
    import threading
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from quorumvault.backup.create import Made
    from quorumvault.backup.progress import Progress
    from quorumvault.backup.restore import Restored
    from quorumvault.backup.show import Item, Summary
    from quorumvault.backup.verify import Verified


class Backup(KeyClient):
    """The backups of one device.

    Safe to share among threads; two calls at once that change something are not let in (InUse).
    After an error or a kill at any moment, call again: what was interrupted is looked up and
    finished first. No password and no guess is ever repeated by itself.

    Args:
        storage: an fsspec URL or a path; None: the one that the profile remembers.
        device: the folder of the profile, made if it is not there (mode 0700); never inside what is
            backed up, never copied to another device.
        vault: makes the account's `Vault` with the given path as its state file. Called when the
            vault is first needed, which with 64 digits is never.
        key_store: where the key is kept; default: files in `device`.
        storage_options: for fsspec, as JSON can hold them; None: those of the profile.

    Raises:
        TypeError: storage_options are not as JSON can hold them.

    """

    def list(self) -> builtins.list[Summary]:
        """The whole backups in the storage, newest first; there is one, unless work goes on.

        Raises:
            NotEnabled, KeyUnknown, NoBackup, WrongKey, FutureVersion, Damaged, StorageError.

        """
        profile, keys = self._reading()
        return show.summaries(self._open(profile), keys)

    def files(self, *, generation: int | None = None) -> Iterator[Item]:
        """What a backup holds, one by one: the newest, or that of `generation`.

        Raises:
            RolledBack: the storage shows an older backup than this device knows.
            NotEnabled, KeyUnknown, NoBackup, WrongKey, FutureVersion, Damaged, StorageError.

        """
        profile, keys = self._reading()
        return show.contents(
            self._open(profile),
            keys,
            generation=generation,
            known_generation=self._known(profile),
        )

    def verify(
        self,
        *,
        generation: int | None = None,
        workers: int | None = None,
        progress: Progress = SILENT,
        stop: threading.Event | None = None,
    ) -> Verified:
        """Read every object of a backup and open it: the newest, or that of `generation`.

        Raises:
            Damaged: with all objects and files that are.
            RolledBack: the storage shows an older backup than this device knows.
            Cancelled, InUse, and as `list`.

        """
        profile, keys = self._reading()
        with self._device.locked():
            verified = verify(
                self._open(profile),
                keys,
                generation=generation,
                known_generation=self._known(profile),
                workers=workers,
                progress=progress,
                stop=stop,
            )
            self._learn(profile, verified.generation)
            return verified

    # ------------------------------------------------------------ backing up and restoring

    def create(
        self,
        paths: Sequence[str | PathLike[str]],
        *,
        exclude: Sequence[str] = (),
        skip_unreadable: bool = False,
        check: Check = Check.NEW,
        workers: int | None = None,
        progress: Progress = SILENT,
        stop: threading.Event | None = None,
    ) -> Made:
        """Make a new backup of these files and folders; when it is whole, the older ones go.

        What the storage has already is not uploaded again; interrupted, the next call goes on.
        While it is not known whether a new key counts already, both keys get a backup; `Made` is
        of the current one's.

        Args:
            paths: what to back up, at least one.
            exclude: glob patterns of what to leave out.
            skip_unreadable: leave out what can't be read, too, and tell it in `Made.skipped`.
            check: what is read back from the storage before the older backups go.
            workers: threads; None: as many as help.
            progress: told from a thread of its own choice.
            stop: set it to end with Cancelled.

        Raises:
            NotEnabled, KeyUnknown, RolledBack, AnotherWriter, SourceError, StorageError, Damaged,
            Cancelled, InUse, DeviceStateError: the backup that was whole before still is.

        """
        with self._device.locked():
            profile = self._keeper.settle(strict=False)
            key = self._keeper.key(profile)
            storage = self._expected(profile)

            def under(key: bytes, known_generation: int) -> Made:
                return create(
                    storage,
                    Keys.of(key),
                    [Path(path) for path in paths],
                    known_generation=known_generation,
                    exclude=exclude,
                    keep_out=[self._device.folder],
                    skip_unreadable=skip_unreadable,
                    check=check,
                    workers=workers,
                    progress=progress,
                    stop=stop,
                )

            made = under(key, self._known(profile))
            self._keeper.note(
                generation=made.generation, last_created_s=made.created_s, **self._settings()
            )
            work = profile.work
            if isinstance(work, NewKey) and asks_vault(work):
                # For all that is known here the vault has the new key, and gives that only.
                twin = under(self._keeper.next_key(work), work.generation)
                self._keeper.note_next(work, twin.generation, twin.created_s)
            self._keeper.sweep()
            return made

    def restore(
        self,
        target: str | PathLike[str],
        *,
        only: Sequence[str] = (),
        generation: int | None = None,
        workers: int | None = None,
        progress: Progress = SILENT,
        stop: threading.Event | None = None,
    ) -> Restored:
        """Put the files of the newest backup into `target`; nothing there is ever overwritten.

        Args:
            target: a folder; made if it is not there.
            only: files and folders, as `files` names them; all if empty.
            generation: an older backup, where there is one and it is wanted; None: the newest.
            workers: threads; None: as many as help.
            progress: told from a thread of its own choice.
            stop: set it to end with Cancelled; the same call goes on later.

        Raises:
            TargetError: it can't be put there; nothing is left in place.
            RolledBack, Cancelled, InUse, and as `list`.

        """
        profile, keys = self._reading()
        with self._device.locked():
            restored = restore(
                self._open(profile),
                keys,
                Path(target),
                only=only,
                generation=generation,
                known_generation=self._known(profile),
                workers=workers,
                progress=progress,
                stop=stop,
            )
            self._learn(profile, restored.generation)
            return restored

    def new_key(
        self,
        paths: Sequence[str | PathLike[str]],
        *,
        password: str | bytes | None = None,
        digits: str | None = None,
        check_strength: bool = True,
        hints: Sequence[str] = (),
        exclude: Sequence[str] = (),
        skip_unreadable: bool = False,
        workers: int | None = None,
        progress: Progress = SILENT,
        stop: threading.Event | None = None,
    ) -> Made:
        """Back everything up under a new key; then the old key, its lock and its copies go.

        For when somebody may know the old key. The old backup opens until the new one is whole and
        its key locked. Interrupted, the same call goes on.

        Args:
            paths: what to back up, as of `create`; so are the arguments not named here.
            password: locks the new key, if one locks the current; may be the same.
            digits: the new ones of `make_digits`, typed back, if digits lock the current.
            check_strength: as of `enable_with_password`, like `hints`.
            hints: words that somebody who knows the owner would try.
            exclude: as of `create`, like all below.
            skip_unreadable: leave out what can't be read.
            workers: threads.
            progress: told from a thread of its own choice.
            stop: set it to end with Cancelled.

        Raises:
            ValueError: not the one of password and digits that the current lock asks for.
            MistypedDigits, WeakPassword, VaultError, and as `create`.

        """
        secret = None
        if password is not None:
            secret = password_bytes(password, hints, check_strength=check_strength)
        with self._device.locked():
            profile = self._keeper.settle()
            if profile.mode != "off" and (profile.mode == "password") != (secret is not None):
                raise ValueError(f"the key is locked by {profile.mode}: give that for the new one")
            if (secret is None) == (digits is None):
                raise ValueError("give either a password or the digits")
            work = self._keeper.begin_new_key(profile)
            key = self._keeper.next_key(work)
            if digits is not None:
                compare_typed(digits, key)
                self._keeper.confirm_next_digits(work)
            made = create(
                self._expected(profile),
                Keys.of(key),
                [Path(path) for path in paths],
                known_generation=work.generation,
                exclude=exclude,
                keep_out=[self._device.folder],
                skip_unreadable=skip_unreadable,
                workers=workers,
                progress=progress,
                stop=stop,
            )
            self._keeper.note(**self._settings())
            doubts = self._keeper.lock_new_key(secret, made.generation, made.created_s)
            self._keeper.sweep()
            return dataclasses.replace(made, doubts=doubts)
