"""A new phone: the key by password from the vault, or by its 64 digits; then everything comes back.

QUORUMVAULT_CONNECTION=vault.json python new_phone.py ACCOUNT STORAGE PROFILE TARGET [digits]
"""

from __future__ import annotations

import os
import sys
from getpass import getpass
from pathlib import Path

from quorumvault import (
    Exhausted,
    Locked,
    Superseded,
    Unavailable,
    Vault,
    VaultError,
    WrongPassword,
)
from quorumvault.backup import Backup, BackupError, MistypedDigits, TargetError

THINK = 3
"""With so few guesses left, the owner is asked to stop and think."""


def typed(question: str) -> str:
    """From a terminal hidden; from a pipe one line for each question."""
    return getpass(question) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def by_password(backup: Backup) -> bool:
    """Ask until it is right or nothing is left to guess."""
    guesses = backup.guesses()  # free
    if not guesses:
        print("The vault keeps no key that can be had: is the account right? Were it digits?")
        return False
    while True:
        if guesses <= THINK and typed(f"{guesses} guesses left. Sure? ") != "yes":
            return False
        try:
            backup.recover_with_password(typed("Password of your backups: "))
        except WrongPassword as wrong:
            guesses = wrong.remaining
            print(f"Wrong. {guesses} guesses remain; at none the backup is lost for ever.")
        except Unavailable as away:
            # The outcome is looked up by the next try; the right password counts once.
            print(f"Type the same password again, later: {away}")
            return False
        except Superseded:
            print("Another device of yours was faster. Type it again.")
        except (Exhausted, Locked) as gone:
            print(gone)
            return False
        else:
            return True


def by_digits(backup: Backup) -> bool:
    """Ask until a key of this storage was typed; the vault is not asked for anything."""
    while digits := typed("The 64 digits: "):
        try:
            backup.recover_with_digits(digits)
        except MistypedDigits as mistake:
            print(mistake)
        else:
            return True
    return False


def main() -> int:
    """Recover the key, restore all."""
    account, storage, profile, target, *how = sys.argv[1:]
    connection = os.environ["QUORUMVAULT_CONNECTION"]

    def open_vault(state_file: Path) -> Vault:
        return Vault.from_connection(connection, account, state_file=state_file)

    with Backup(storage, Path(profile), vault=open_vault) as backup:
        known = by_digits(backup) if how == ["digits"] else by_password(backup)
        if not known:
            return 6
        newest = backup.list()[0]
        print(f"Backup {newest.generation}: {newest.files} files, {newest.bytes} bytes.")
        try:
            done = backup.restore(target)
        except TargetError as refused:  # no room, or files are there: nothing was touched
            print(refused)
            return 4
        print(f"{done.files} files are back in {done.target}.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BackupError, VaultError) as error:
        sys.exit(str(error))
