"""What `quorumvault backup` change-password, switch, new-key and disable do.

Each says beforehand what will stop working. The same command, typed again, completes what a kill
or a vault that was away left half done.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from quorumvault.backup.errors import NotEnabled
from quorumvault.cli import backup_ask
from quorumvault.cli.backup import Lock
from quorumvault.cli.backup_ask import talk
from quorumvault.cli.backup_open import check_vault_options, run
from quorumvault.cli.backup_show import Bars, facts_of, plural, stoppable
from quorumvault.cli.backup_work import (
    hints,
    lock_now,
    lost_for_ever,
    may_replace,
    sources,
    tell_made,
    tell_secured,
)
from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quorumvault.cli.backup_open import Opened
    from quorumvault.cli.backup_options import Reached

AGAIN: Final = "The same command goes on with what was begun."
KEPT_FOR_NOBODY: Final = (
    "Kept copies can never be opened again: the key is erased in the vault, too."
)
KEPT_BY_DIGITS: Final = "Kept copies can be opened only by whoever has the 64 digits."


def change_password(place: Reached, password_file: str | None) -> None:
    """The same key under another password."""

    def work(opened: Opened) -> None:
        opened.tell_unfinished()
        if lock_now(opened) is not Lock.PASSWORD:
            raise Failure(
                "backups are locked by 64 digits here, there is no password to change;"
                " `quorumvault backup switch --password` makes one",
                Exit.CONFLICT,
            )
        check_vault_options(opened.settings)
        lost_for_ever("the new password")
        secret = backup_ask.new_password(password_file, hints(opened))
        talk.print("Locking the key at three data centers …")
        secured = opened.backup.change_password(secret, hints=hints(opened))
        opened.remember()
        tell_secured(
            opened,
            secured,
            "The new password is the one; the old one opens nothing. Nothing was uploaded.",
        )

    run(place, work, AGAIN)


def switch(
    place: Reached,
    lock: Lock | None,
    password_file: str | None,
    digits_file: Path | None,
    *,
    replace: bool,
) -> None:
    """From a password to digits or back."""

    def work(opened: Opened) -> None:
        opened.tell_unfinished()
        now = lock_now(opened)
        wanted = lock or (Lock.KEY if now is Lock.PASSWORD else Lock.PASSWORD)
        if wanted is now:
            raise Failure(f"backups are locked by {_name(now)} already", Exit.CONFLICT)
        check_vault_options(opened.settings)
        if wanted is Lock.KEY:
            backup_ask.needs_person_or_file(digits_file)
            talk.print("The password stops working once you have typed the digits back:")
            talk.print("the vault then forgets the key. The backup stays as it is.")
            lost_for_ever("the 64 digits")
            typed = backup_ask.typed_back(opened.backup.switch_to_digits(), digits_file)
            secured = opened.backup.confirm_digits(typed)
        else:
            anew = may_replace(opened, replace=replace)
            talk.print("The vault will keep the key under a password. The backup stays as it is,")
            talk.print("and the 64 digits open it still: destroy them, or make a new key.")
            lost_for_ever("the password")
            secret = backup_ask.new_password(password_file, hints(opened))
            talk.print("Locking the key at three data centers …")
            secured = opened.backup.switch_to_password(secret, hints=hints(opened), replace=anew)
        opened.remember()
        tell_secured(opened, secured, f"Backups are locked by {_name(wanted)} now.")

    run(place, work, AGAIN)


def new_key(
    place: Reached,
    paths: Sequence[Path],
    exclude: Sequence[str],
    password_file: str | None,
    digits_file: Path | None,
    *,
    skip_unreadable: bool,
    yes: bool,
) -> None:
    """A fresh key, locked as the old one is, everything uploaded under it, and the old one gone."""

    def work(opened: Opened) -> None:
        opened.tell_unfinished()
        way = lock_now(opened)
        what = sources(opened, paths, exclude, skip_unreadable=skip_unreadable)
        talk.print("A new key is made, and all files are uploaded again under it. Once that is")
        talk.print("complete and verified, the old key, its password or digits, and the copies")
        talk.print("under it are gone for ever.")
        _be_sure("Make a new key?", yes=yes)
        secret = typed = None
        if way is Lock.PASSWORD:
            check_vault_options(opened.settings)
            lost_for_ever("the password")
            secret = backup_ask.new_password(password_file, hints(opened))
        else:
            backup_ask.needs_person_or_file(digits_file)
            lost_for_ever("the 64 digits")
            typed = backup_ask.typed_back(opened.backup.make_digits(), digits_file)
        with Bars(talk) as bars, stoppable(talk) as stop:
            made = opened.backup.new_key(
                [Path(each) for each in what.paths],
                password=secret,
                digits=typed,
                hints=hints(opened),
                exclude=what.exclude,
                skip_unreadable=what.skip_unreadable,
                progress=bars,
                stop=stop,
            )
        opened.remember(
            paths=what.paths, exclude=what.exclude, skip_unreadable=what.skip_unreadable
        )
        tell_made(opened, made, bars.seconds)

    run(place, work, f"The old key and backup are whole. {AGAIN}")


def abandon(place: Reached) -> None:
    """Give up a new key, or digits not typed back; what counted before counts still."""

    def work(opened: Opened) -> None:
        after = opened.backup.abandon()
        opened.tell(facts_of(after), "Given up; what counted before counts still.")

    run(place, work, AGAIN)


def disable(place: Reached, *, delete_copies: bool | None, yes: bool) -> None:
    """No key any more, in the vault or here; the copies as the person says."""

    def work(opened: Opened) -> None:
        before = opened.backup.status()
        if before.mode == "off" and before.unfinished is None:
            raise NotEnabled("backups are off on this device already")
        kept = KEPT_BY_DIGITS if before.mode == "digits" else KEPT_FOR_NOBODY
        fate = delete_copies
        if fate is None:
            if not backup_ask.somebody():
                raise typer.BadParameter("say --delete-copies or --keep-copies")
            talk.print("What is to become of the encrypted copies in the storage?")
            talk.print("  delete  They are removed.")
            talk.print(f"  keep    They stay. {kept}")
            fate = backup_ask.choice("Which", ["delete", "keep"]) == "delete"
        elif not fate:
            talk.print(kept)
        _be_sure("Turn backups off, and erase the key for ever?", yes=yes)
        if before.mode == "password":
            check_vault_options(opened.settings)
        ended = opened.backup.disable(delete_copies=fate)
        copies = f"{plural(ended.removed_objects, 'object')} removed" if fate else "the copies stay"
        opened.tell(facts_of(ended), f"Backups are off; the key is erased, {copies}.")

    run(place, work, AGAIN)


def _name(lock: Lock) -> str:
    return "a password" if lock is Lock.PASSWORD else "64 digits"


def _be_sure(question: str, *, yes: bool) -> None:
    """Ask, unless told not to.

    Raises:
        typer.BadParameter: nobody can be asked.
        Failure: the answer was no.

    """
    if yes:
        return
    if not backup_ask.somebody():
        raise typer.BadParameter("this needs --yes when nobody can be asked")
    if not backup_ask.confirmed(question):
        raise Failure("nothing was changed", Exit.CANCELLED)
