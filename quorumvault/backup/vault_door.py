"""The way to the vault, opened when it is first needed: with digits that is never."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

from quorumvault._state import StateFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quorumvault.vault import Vault

    VaultMaker: TypeAlias = Callable[[Path], Vault]


class VaultDoor:
    """Makes the vault's client at the first `open`, and closes it.

    Args:
        make: gets the path of the SDK's state file, and must use it.
        state_file: that path.

    """

    def __init__(self, make: VaultMaker | None, state_file: Path) -> None:
        self._make = make
        self._state_file = state_file
        self._vault: Vault | None = None
        self._turn = threading.Lock()

    @property
    def given(self) -> bool:
        """Whether there is a way at all."""
        return self._make is not None

    def open(self) -> Vault:
        """The account's vault.

        Raises:
            ValueError: none was given.
            VaultError: as its maker raises.

        """
        with self._turn:
            if self._vault is None:
                if self._make is None:
                    raise ValueError("this call asks the vault: make the Backup with vault=…")
                self._vault = self._make(self._state_file)
            return self._vault

    def waits(self) -> bool:
        """Whether a registration was sent, or is about to be, and not brought to its end."""
        return StateFile(self._state_file).load().registration is not None

    def close(self) -> None:
        """Close it, if it was opened."""
        with self._turn:
            if self._vault is not None:
                self._vault.close()
                self._vault = None
