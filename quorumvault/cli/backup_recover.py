"""What `quorumvault backup restore` does: the key first, on a new device; then the files.

A guess is never made without its price being known: how many remain is looked up before, which
costs nothing, and before the last ones the person is asked to think.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from quorumvault._state import StateFile
from quorumvault.backup.device import VAULT_FILE
from quorumvault.cli import backup_ask
from quorumvault.cli.backup import Lock
from quorumvault.cli.backup_ask import talk
from quorumvault.cli.backup_exits import GONE, one_line
from quorumvault.cli.backup_open import check_vault_options, run
from quorumvault.cli.backup_show import Bars, facts_of, plural, size, speed, stoppable
from quorumvault.errors import Exhausted, NotRegistered, WrongPassword

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quorumvault.cli.backup_open import Opened
    from quorumvault.cli.backup_options import Reached


def restore(
    place: Reached,
    target: Path,
    only: Sequence[str],
    number: int | None,
    lock: Lock | None,
    password_file: str | None,
    digits_file: str | None,
    *,
    yes: bool,
) -> None:
    """Get the key if this device does not have it, then the files."""
    if password_file is not None and digits_file is not None:
        raise typer.BadParameter("--password-file and --digits-file exclude each other")

    def work(opened: Opened) -> None:
        if opened.backup.status().key_present:
            if lock is not None or password_file is not None or digits_file is not None:
                talk.print("This device knows the key: no guess is made, no digits are read.")
        else:
            way = lock or _way(opened, password_file, digits_file)
            if way is Lock.PASSWORD:
                _by_password(opened, password_file, yes=yes)
            else:
                backup_ask.kept_digits(digits_file, opened.backup.recover_with_digits)
            opened.remember()
            talk.print("This device knows the key now.")
        with Bars(talk) as bars, stoppable(talk) as stop:
            restored = opened.backup.restore(
                target, only=only, generation=number, progress=bars, stop=stop
            )
        opened.tell(
            facts_of(restored) | {"seconds": round(bars.seconds, 3)},
            f"Backup {restored.generation} is restored: {plural(restored.files, 'file')},"
            f" {size(restored.bytes)} in {bars.seconds:.1f} s{speed(restored.bytes, bars.seconds)},"
            f" in {restored.target}.",
        )

    run(
        place,
        work,
        "Nothing is in place yet. The same command goes on, and reads only what is missing.",
    )


def _way(opened: Opened, password_file: str | None, digits_file: str | None) -> Lock:
    """How the key comes here, as far as it can be known without asking."""
    if password_file is not None:
        return Lock.PASSWORD
    if digits_file is not None:
        return Lock.KEY
    mode = opened.backup.status().mode
    if mode != "off":
        return Lock.PASSWORD if mode == "password" else Lock.KEY
    if not backup_ask.somebody():
        raise typer.BadParameter(
            "this device does not know the key: give --password-file or --digits-file"
        )
    talk.print("This device does not know the key. What do you have of it?")
    talk.print("  password  The one that you made up when backups were turned on.")
    talk.print("  key       The 64 digits that you kept.")
    return Lock(backup_ask.choice("Which", [each.value for each in Lock]))


def _by_password(opened: Opened, password_file: str | None, *, yes: bool) -> None:
    """Guess; on a terminal again and again, each time told what remains."""
    check_vault_options(opened.settings)
    opened.tell_unfinished()
    can_ask = backup_ask.somebody()
    told = False
    while True:
        remaining = opened.backup.guesses()
        if remaining is None:
            raise NotRegistered(
                "the vault keeps no key for this account: check --account; with 64 digits the way"
                " is --key"
            )
        if not remaining and not _waits(opened):
            raise Exhausted(GONE)
        backup_ask.think_first(remaining, can_ask=can_ask, yes=yes, told=told)
        secret = backup_ask.old_password(password_file)
        talk.print("Asking the vault …")
        try:
            opened.backup.recover_with_password(secret)
        except WrongPassword as wrong:
            if password_file is not None or not wrong.remaining:
                raise
            talk.print(one_line(f"{wrong}."), style="yellow", markup=False)
            told = True
        else:
            return


def _waits(opened: Opened) -> bool:
    """Whether a guess of this device got no answer: it may still be repeated."""
    return StateFile(opened.profile / VAULT_FILE).load().attempt is not None
