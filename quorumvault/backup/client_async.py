"""`AsyncBackup`: `Backup` for an event loop; same arguments, same methods, same errors.

The work runs in threads. A cancelled call is told to stop, and waited for, since it must not go on
behind the caller's back: create, verify, restore and new_key end within moments, what asks the
vault within its time limit (30 s by default).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from itertools import islice
from typing import TYPE_CHECKING, Final, Self, TypeVar

from quorumvault.backup.client import Backup
from quorumvault.backup.create import Check
from quorumvault.backup.progress import SILENT

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    from quorumvault.backup.client_profile import Status
    from quorumvault.backup.create import Made
    from quorumvault.backup.keeper import Disabled, Secured
    from quorumvault.backup.key_store import KeyStore
    from quorumvault.backup.progress import Progress
    from quorumvault.backup.restore import Restored
    from quorumvault.backup.show import Item, Summary
    from quorumvault.backup.vault_door import VaultMaker
    from quorumvault.backup.verify import Verified

T = TypeVar("T")

_ITEMS_AT_ONCE: Final = 1000
"""Of `files`, for each trip to a thread."""


class AsyncBackup:
    """See `Backup`. `stop` is not needed here: cancel the task.

    `vault` makes a blocking `quorumvault.Vault`, which is used in threads; `progress` is called
    from threads, too.
    """

    def __init__(
        self,
        storage: str | None,
        device: Path,
        *,
        vault: VaultMaker | None = None,
        key_store: KeyStore | None = None,
        storage_options: Mapping[str, object] | None = None,
    ) -> None:
        self._twin = Backup(
            storage, device, vault=vault, key_store=key_store, storage_options=storage_options
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """See `Backup.close`."""
        await _in_thread(lambda _: self._twin.close())

    async def status(self) -> Status:
        """See `Backup.status`."""
        return await _in_thread(lambda _: self._twin.status())

    async def guesses(self) -> int | None:
        """See `Backup.guesses`."""
        return await _in_thread(lambda _: self._twin.guesses())

    async def list(self) -> builtins.list[Summary]:
        """See `Backup.list`."""
        return await _in_thread(lambda _: self._twin.list())

    async def files(self, *, generation: int | None = None) -> AsyncIterator[Item]:
        """See `Backup.files`."""
        items = await _in_thread(lambda _: iter(self._twin.files(generation=generation)))
        while batch := await _in_thread(lambda _: [*islice(items, _ITEMS_AT_ONCE)]):
            for item in batch:
                yield item

    async def verify(
        self,
        *,
        generation: int | None = None,
        workers: int | None = None,
        progress: Progress = SILENT,
    ) -> Verified:
        """See `Backup.verify`."""
        return await _in_thread(
            lambda stop: self._twin.verify(
                generation=generation, workers=workers, progress=progress, stop=stop
            )
        )

    async def enable_with_password(
        self,
        password: str | bytes,
        *,
        check_strength: bool = True,
        hints: Sequence[str] = (),
        replace: bool = False,
    ) -> Secured:
        """See `Backup.enable_with_password`."""
        return await _in_thread(
            lambda _: self._twin.enable_with_password(
                password, check_strength=check_strength, hints=hints, replace=replace
            )
        )

    async def make_digits(self) -> str:
        """See `Backup.make_digits`."""
        return await _in_thread(lambda _: self._twin.make_digits())

    async def enable_with_digits(self, typed: str) -> Secured:
        """See `Backup.enable_with_digits`."""
        return await _in_thread(lambda _: self._twin.enable_with_digits(typed))

    async def create(
        self,
        paths: Sequence[str | PathLike[str]],
        *,
        exclude: Sequence[str] = (),
        skip_unreadable: bool = False,
        check: Check = Check.NEW,
        workers: int | None = None,
        progress: Progress = SILENT,
    ) -> Made:
        """See `Backup.create`."""
        return await _in_thread(
            lambda stop: self._twin.create(
                paths,
                exclude=exclude,
                skip_unreadable=skip_unreadable,
                check=check,
                workers=workers,
                progress=progress,
                stop=stop,
            )
        )

    async def restore(
        self,
        target: str | PathLike[str],
        *,
        only: Sequence[str] = (),
        generation: int | None = None,
        workers: int | None = None,
        progress: Progress = SILENT,
    ) -> Restored:
        """See `Backup.restore`."""
        return await _in_thread(
            lambda stop: self._twin.restore(
                target,
                only=only,
                generation=generation,
                workers=workers,
                progress=progress,
                stop=stop,
            )
        )

    async def recover_with_password(self, password: str | bytes) -> Status:
        """See `Backup.recover_with_password`."""
        return await _in_thread(lambda _: self._twin.recover_with_password(password))

    async def recover_with_digits(self, text: str) -> Status:
        """See `Backup.recover_with_digits`."""
        return await _in_thread(lambda _: self._twin.recover_with_digits(text))

    async def change_password(
        self, password: str | bytes, *, check_strength: bool = True, hints: Sequence[str] = ()
    ) -> Secured:
        """See `Backup.change_password`."""
        return await _in_thread(
            lambda _: self._twin.change_password(
                password, check_strength=check_strength, hints=hints
            )
        )

    async def switch_to_password(
        self,
        password: str | bytes,
        *,
        check_strength: bool = True,
        hints: Sequence[str] = (),
        replace: bool = False,
    ) -> Secured:
        """See `Backup.switch_to_password`."""
        return await _in_thread(
            lambda _: self._twin.switch_to_password(
                password, check_strength=check_strength, hints=hints, replace=replace
            )
        )

    async def switch_to_digits(self) -> str:
        """See `Backup.switch_to_digits`."""
        return await _in_thread(lambda _: self._twin.switch_to_digits())

    async def confirm_digits(self, typed: str) -> Secured:
        """See `Backup.confirm_digits`."""
        return await _in_thread(lambda _: self._twin.confirm_digits(typed))

    async def new_key(
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
    ) -> Made:
        """See `Backup.new_key`."""
        return await _in_thread(
            lambda stop: self._twin.new_key(
                paths,
                password=password,
                digits=digits,
                check_strength=check_strength,
                hints=hints,
                exclude=exclude,
                skip_unreadable=skip_unreadable,
                workers=workers,
                progress=progress,
                stop=stop,
            )
        )

    async def finish(self) -> Status:
        """See `Backup.finish`."""
        return await _in_thread(lambda _: self._twin.finish())

    async def abandon(self) -> Status:
        """See `Backup.abandon`."""
        return await _in_thread(lambda _: self._twin.abandon())

    async def disable(self, *, delete_copies: bool) -> Disabled:
        """See `Backup.disable`."""
        return await _in_thread(lambda _: self._twin.disable(delete_copies=delete_copies))


async def _in_thread(work: Callable[[threading.Event], T]) -> T:
    """Run it off the loop; cancelled, tell it to stop and wait until it has."""
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):  # of an impatient caller
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # seen; the cancellation is what is told
        raise
