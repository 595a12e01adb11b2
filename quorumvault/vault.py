"""`Vault` and `AsyncVault`: the client, twice, over one core.

`AsyncVault` lives in the caller's event loop; `Vault` runs one in a thread of its own, so it works
anywhere. Both run one call at a time and keep the rules of `_registration` and `_recovery`.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

import msgspec

from quorumvault import _record, _recovery, _registration
from quorumvault._boxes import MAX_BACKUP_KEY_BYTES
from quorumvault._core import Endpoint, Session, concluded, random_key
from quorumvault._patience import DEFAULT_TIMEOUT_S
from quorumvault._state import State, StateFile
from quorumvault._transport import Driver, Transport
from quorumvault._wire import Id
from quorumvault.connection import load
from quorumvault.errors import StateFileError, VaultError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from os import PathLike
    from uuid import UUID

    from quorumvault._core import Flow
    from quorumvault._record import RecordStatus
    from quorumvault._registration import Registered

MAX_PASSWORD_BYTES: Final = 4096

T = TypeVar("T")


class AsyncVault:
    """One account of one vault.

    Args:
        endpoints: URLs (or Endpoints) of the nodes' client listeners, at least three data centers
            for registering; the nearest is found by asking.
        ca_file: PEM of the vault's own authority; nothing else is trusted.
        token: the account's bearer token, or a function that gives a fresh one for each send.
        state_file: where to remember an open attempt or registration, pins and the last receipt;
            one file per account. None keeps them in memory: then a kill forgets them.
        cluster_id: pinned, if known beforehand; else pinned when first proven.
        opaque_public_key: 32 bytes, pinned likewise.
        timeout_s: for one call, all retries included.
        hazmat_identity_ksf: no Argon2 (tests and load only): records made with it can be guessed
            offline by whoever steals three data centers, and opened by no proper client.

    Raises:
        VaultError: ca_file is unusable.

    """

    def __init__(
        self,
        endpoints: Sequence[str | Endpoint],
        *,
        ca_file: str | PathLike[str],
        token: str | Callable[[], str],
        state_file: str | PathLike[str] | None,
        cluster_id: UUID | None = None,
        opaque_public_key: bytes | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        hazmat_identity_ksf: bool = False,
    ) -> None:
        if not endpoints:
            raise ValueError("a vault needs at least one endpoint")
        places = tuple(Endpoint(e) if isinstance(e, str) else e for e in endpoints)
        for place in places:
            if not place.url.startswith("https://"):
                raise ValueError(f"the endpoint {place.url!r} must begin with https://")
        self._cluster_id = cluster_id
        self._opaque_public_key = None if opaque_public_key is None else Id(opaque_public_key)
        self._timeout_s = timeout_s
        self._store = StateFile(None if state_file is None else Path(state_file))
        maker = token if callable(token) else lambda: token
        try:
            self._transport = Transport(places, Path(ca_file), maker, cluster_id)
        except OSError as error:
            raise VaultError(f"cannot use the authority {ca_file}: {error}") from error
        self._session = Session(places, State(), hazmat_identity_ksf=hazmat_identity_ksf)
        self._turn = asyncio.Lock()

    @classmethod
    def from_connection(
        cls,
        path: str | PathLike[str],
        account: str,
        *,
        state_file: str | PathLike[str] | None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        hazmat_identity_ksf: bool = False,
    ) -> Self:
        """A vault as a connection file describes it, with tokens made for `account`.

        Raises:
            VaultError: the file, its key or its authority is unusable.

        """
        reach = load(Path(path))
        return cls(
            reach.endpoints,
            ca_file=reach.ca_file,
            token=lambda: reach.token(account),
            state_file=state_file,
            cluster_id=reach.cluster_id,
            timeout_s=timeout_s,
            hazmat_identity_ksf=hazmat_identity_ksf,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the state file stays."""
        await self._transport.close()

    async def register(self, password: str | bytes, backup_key: bytes | None = None) -> Registered:
        """Lock `backup_key` (1-995 bytes; default: 32 fresh random ones) under `password`.

        An active registration stays usable until the new one is activated, and is gone then.

        Raises:
            Unfinished: an interrupted registration waits in the state file.
            Conflict, Superseded: another device was faster; nothing of this call is active.
            Unavailable: not finished in time; `resume_registration` goes on.
            Tampered, RollbackDetected, Denied, Refused: see errors.py.

        """
        secret = _password(password)
        key = random_key() if backup_key is None else backup_key
        if not 1 <= len(key) <= MAX_BACKUP_KEY_BYTES:
            raise ValueError(f"a backup key has 1-{MAX_BACKUP_KEY_BYTES} bytes")
        return await self._call(lambda session: _registration.register(session, secret, key))

    async def resume_registration(self) -> Registered | None:
        """Finish an interrupted registration; None when there is none.

        Its key was known to the interrupted program only: `recover` shows it.

        Raises:
            VaultError: as `register`.

        """
        return await self._call(_registration.resume)

    async def abandon_registration(self) -> bool:
        """Forget an interrupted registration; True when there was one."""
        return await self._call(_registration.abandon)

    async def recover(self, password: str | bytes) -> bytes:
        """The backup key. One typed password is one guess, however often it has to be sent.

        Raises:
            WrongPassword: with the number of guesses that remain.
            Exhausted, Locked, NotRegistered: no guess is possible.
            Superseded: another device's proof came between; type the password again.
            Unavailable: `charged` says whether the guess was counted; calling again with the
                same password repeats it.
            Tampered, RollbackDetected, Denied, Refused: see errors.py.

        """
        secret = _password(password)
        return await self._call(lambda session: _recovery.recover(session, secret))

    async def status(self) -> RecordStatus:
        """What the vault keeps for the account.

        Raises:
            Unavailable, RollbackDetected, Tampered, Denied: see errors.py.

        """
        return await self._call(_record.status)

    async def delete(self, *, only: bytes | None = None) -> None:
        """Erase the account's key for ever.

        Args:
            only: 32 bytes, the registration to erase; None erases whatever is there.

        Raises:
            Conflict: the record changed while it was deleted, or is another registration; look
                again.
            Unavailable, RollbackDetected, Tampered, Denied: see errors.py.

        """
        await self._call(lambda session: _record.delete(session, only))

    async def _call(self, flow: Callable[[Session], Flow[T]]) -> T:
        async with self._turn:
            with self._store.locked():
                self._session.begin(self._pinned(self._store.load()))
                driver = Driver(self._transport, self._store, self._timeout_s)
                return await driver.run(concluded(self._session, flow(self._session)))

    def _pinned(self, state: State) -> State:
        """The stored state with the pins that this client was given."""
        pins = state.pins
        for name, given, stored in (
            ("cluster", self._cluster_id, pins.cluster_id),
            ("OPAQUE public key", self._opaque_public_key, pins.opaque_public_key),
        ):
            if given is not None and stored is not None and given != stored:
                raise StateFileError(
                    f"the state file {self._store.path} belongs to another {name} than the given"
                    " one; use one state file for each account of each vault"
                )
        merged = msgspec.structs.replace(
            pins,
            cluster_id=pins.cluster_id or self._cluster_id,
            opaque_public_key=pins.opaque_public_key or self._opaque_public_key,
        )
        return msgspec.structs.replace(state, pins=merged)


def _password(password: str | bytes) -> bytes:
    """As typed, in UTF-8, never normalised; the error of str.encode is not raised: it holds it."""
    if isinstance(password, str):
        secret = password.encode("utf-8", "surrogatepass")
        if any("\ud800" <= letter <= "\udfff" for letter in password):
            raise ValueError("the password holds half a character, which has no UTF-8")
    else:
        secret = password
    if not 1 <= len(secret) <= MAX_PASSWORD_BYTES:
        raise ValueError(f"a password has 1-{MAX_PASSWORD_BYTES} bytes")
    return secret


class Vault:
    """The blocking twin of `AsyncVault`: same arguments, same methods, same errors.

    Safe to call from several threads (one call at a time). Close it, or use `with`.
    """

    def __init__(
        self,
        endpoints: Sequence[str | Endpoint],
        *,
        ca_file: str | PathLike[str],
        token: str | Callable[[], str],
        state_file: str | PathLike[str] | None,
        cluster_id: UUID | None = None,
        opaque_public_key: bytes | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        hazmat_identity_ksf: bool = False,
    ) -> None:
        self._twin = AsyncVault(
            endpoints,
            ca_file=ca_file,
            token=token,
            state_file=state_file,
            cluster_id=cluster_id,
            opaque_public_key=opaque_public_key,
            timeout_s=timeout_s,
            hazmat_identity_ksf=hazmat_identity_ksf,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="quorumvault", daemon=True
        )
        self._thread.start()

    @classmethod
    def from_connection(
        cls,
        path: str | PathLike[str],
        account: str,
        *,
        state_file: str | PathLike[str] | None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        hazmat_identity_ksf: bool = False,
    ) -> Self:
        """See `AsyncVault.from_connection`."""
        reach = load(Path(path))
        return cls(
            reach.endpoints,
            ca_file=reach.ca_file,
            token=lambda: reach.token(account),
            state_file=state_file,
            cluster_id=reach.cluster_id,
            timeout_s=timeout_s,
            hazmat_identity_ksf=hazmat_identity_ksf,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread; the state file stays. May be repeated."""
        if self._loop.is_closed():
            return
        self._wait(self._twin.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def register(self, password: str | bytes, backup_key: bytes | None = None) -> Registered:
        """See `AsyncVault.register`."""
        return self._wait(self._twin.register(password, backup_key))

    def resume_registration(self) -> Registered | None:
        """See `AsyncVault.resume_registration`."""
        return self._wait(self._twin.resume_registration())

    def abandon_registration(self) -> bool:
        """See `AsyncVault.abandon_registration`."""
        return self._wait(self._twin.abandon_registration())

    def recover(self, password: str | bytes) -> bytes:
        """See `AsyncVault.recover`."""
        return self._wait(self._twin.recover(password))

    def status(self) -> RecordStatus:
        """See `AsyncVault.status`."""
        return self._wait(self._twin.status())

    def delete(self, *, only: bytes | None = None) -> None:
        """See `AsyncVault.delete`."""
        self._wait(self._twin.delete(only=only))

    def _wait(self, call: Coroutine[object, object, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: end the call; its state file resumes it
            raise
