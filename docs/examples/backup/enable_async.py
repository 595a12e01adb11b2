"""Turn backups on with a password, and make the first one: for an app with an event loop.

QUORUMVAULT_CONNECTION=connection.json python enable_async.py ACCOUNT STORAGE PROFILE PATH...
"""

from __future__ import annotations

import asyncio
import os
import sys
from getpass import getpass
from pathlib import Path

from quorumvault import Unavailable, Vault, VaultError
from quorumvault.backup import AlreadyEnabled, AsyncBackup, BackupError, WeakPassword, rate


def ask(question: str) -> str:
    """From a terminal hidden; from a pipe one line for each question."""
    return getpass(question) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


async def typed(question: str) -> str:
    """Ask in a thread: the loop goes on."""
    return await asyncio.to_thread(ask, question)


async def main() -> int:
    """Ask, register, back up."""
    account, storage, profile, *paths = sys.argv[1:]
    connection = os.environ["QUORUMVAULT_CONNECTION"]

    def open_vault(state_file: Path) -> Vault:
        return Vault.from_connection(connection, account, state_file=state_file)

    async with AsyncBackup(storage, Path(profile), vault=open_vault) as backup:
        while True:
            password = await typed("Password for your backups: ")
            strength = rate(password, hints=[account])
            print(f"This password is {strength.word}.", *strength.advice)
            if password != await typed("Once more: "):
                print("These were two different ones.")
                continue
            try:
                secured = await backup.enable_with_password(password, hints=[account])
            except WeakPassword as weak:
                print(weak)
                continue
            except AlreadyEnabled as already:  # on this device, or there is an old backup
                print(already)
                return 8
            except Unavailable as away:
                # Nothing is lost: the next call, or the same one, looks how far this one came.
                print(f"The vault can't be reached; try again later. {away}")
                return 3
            break
        print(secured.warning)
        for doubt in secured.doubts:
            print(f"Not confirmed yet: {doubt}")
        made = await backup.create(paths)
        print(f"Backup {made.generation}: {made.files} files, {made.bytes} bytes.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (BackupError, VaultError) as error:
        sys.exit(str(error))
