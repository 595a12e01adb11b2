"""`quorumvault backup`: end-to-end encrypted backups for the command line.

Data goes to stdout, talk, questions and progress to stderr. Passwords and digits are typed, or
read from a file or stdin; they are never an argument, where other users could read them (I11).
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quorumvault.cli.backup_options import Place, Reached, with_options

app = typer.Typer(
    help="Encrypted backups that neither the storage nor the vault can read.",
    no_args_is_help=True,
)


class Check(StrEnum):
    """What a create reads back before it removes the older backup."""

    NEW = "new"
    ALL = "all"


class Lock(StrEnum):
    """What the backup key is locked by."""

    PASSWORD = "password"  # noqa: S105 - the name of a way, no password
    KEY = "key"


PasswordFlag = Annotated[
    bool, typer.Option("--password", help="Lock the key with a password, kept in the vault.")
]
KeyFlag = Annotated[
    bool, typer.Option("--key", help="Keep the key yourself, as 64 digits; no vault.")
]
PasswordFile = Annotated[
    str | None,
    typer.Option("--password-file", help="Read the password from a file; - is stdin."),
]
NewDigitsFile = Annotated[
    Path | None,
    typer.Option(
        "--digits-file",
        help="Write the 64 digits to this new file, and read them back, instead of asking.",
    ),
]
DigitsFile = Annotated[
    str | None,
    typer.Option("--digits-file", help="Read the 64 digits from a file; - is stdin."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Destroy the key that the vault keeps for the account."),
]
Paths = Annotated[
    list[Path] | None,
    typer.Argument(help="Files and folders.", show_default="the ones of last time"),
]
Number = Annotated[
    int | None,
    typer.Option(
        "--backup", min=1, help="An older backup, by its number in `list`.", show_default="newest"
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="GLOB", help="Leave out what matches, such as '*.tmp'."),
]
SkipUnreadable = Annotated[
    bool,
    typer.Option(
        "--skip-unreadable", help="Leave out, and name, what can't be read or is no file."
    ),
]


def _lock(password: bool, key: bool) -> Lock | None:  # noqa: FBT001 - two flags
    if password and key:
        raise typer.BadParameter("--password and --key exclude each other")
    if password:
        return Lock.PASSWORD
    return Lock.KEY if key else None


@app.command()
@with_options
def enable(
    place: Reached,
    password: PasswordFlag = False,
    key: KeyFlag = False,
    password_file: PasswordFile = None,
    digits_file: NewDigitsFile = None,
    replace: Replace = False,
) -> None:
    """Turn backups on: make a key on this device and lock it with a password, or keep 64 digits."""
    lock = _lock(password, key)

    from quorumvault.cli import backup_work  # noqa: PLC0415 - heavy

    backup_work.enable(place, lock, password_file, digits_file, replace=replace)


@app.command()
@with_options
def create(
    place: Place,
    paths: Paths = None,
    exclude: Exclude = None,
    skip_unreadable: SkipUnreadable = False,
    check: Annotated[
        Check,
        typer.Option("--check", help="Read back what is new, or all, before the old one goes."),
    ] = Check.NEW,
) -> None:
    """Make a new backup; the older one is removed once this one is complete and verified.

    Without PATHS, what was backed up last is backed up again, with the same exclusions.
    """
    from quorumvault.cli import backup_work  # noqa: PLC0415 - heavy

    backup_work.create(
        place, paths or [], exclude or [], skip_unreadable=skip_unreadable, check_all=check == "all"
    )


@app.command("list")
@with_options
def list_(
    place: Place,
    files: Annotated[bool, typer.Option("--files", help="The files in it.")] = False,
    number: Number = None,
) -> None:
    """Show which complete backup the storage holds, or the files in it."""
    from quorumvault.cli import backup_work  # noqa: PLC0415 - heavy

    if files:
        backup_work.list_files(place, number)
    else:
        backup_work.list_backups(place)


@app.command()
@with_options
def verify(place: Place, number: Number = None) -> None:
    """Read everything back and check it, byte by byte; restores nothing."""
    from quorumvault.cli import backup_work  # noqa: PLC0415 - heavy

    backup_work.verify(place, number)


@app.command()
@with_options
def restore(
    place: Reached,
    target: Annotated[
        Path, typer.Argument(help="A folder; made if it is not there, and nothing in it replaced.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="PATH", help="Only this file or folder of the backup."),
    ] = None,
    number: Number = None,
    password: Annotated[
        bool, typer.Option("--password", help="On a new device: the key is under a password.")
    ] = False,
    key: Annotated[
        bool, typer.Option("--key", help="On a new device: the key is 64 digits that you kept.")
    ] = False,
    password_file: PasswordFile = None,
    digits_file: DigitsFile = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Guess without asking, even when few guesses remain.")
    ] = False,
) -> None:
    """Get the files back; nothing that is there is overwritten.

    On a new device it first asks for the password or the 64 digits; from then on the device knows
    the key.
    """
    lock = _lock(password, key)

    from quorumvault.cli import backup_recover  # noqa: PLC0415 - heavy

    backup_recover.restore(
        place, target, only or [], number, lock, password_file, digits_file, yes=yes
    )


@app.command()
@with_options
def status(
    place: Reached,
    guesses: Annotated[
        bool, typer.Option("--guesses", help="Also ask the vault how many remain; costs none.")
    ] = False,
) -> None:
    """Show what this device knows of its backup."""
    from quorumvault.cli import backup_work  # noqa: PLC0415 - heavy

    backup_work.status(place, guesses=guesses)


@app.command("change-password")
@with_options
def change_password(place: Reached, password_file: PasswordFile = None) -> None:
    """Lock the same key with another password; nothing is uploaded, the old one stops working."""
    from quorumvault.cli import backup_change  # noqa: PLC0415 - heavy

    backup_change.change_password(place, password_file)


@app.command()
@with_options
def switch(
    place: Reached,
    password: PasswordFlag = False,
    key: KeyFlag = False,
    password_file: PasswordFile = None,
    digits_file: NewDigitsFile = None,
    replace: Replace = False,
) -> None:
    """Change from a password to 64 digits, or back; the same key, nothing is uploaded."""
    lock = _lock(password, key)

    from quorumvault.cli import backup_change  # noqa: PLC0415 - heavy

    backup_change.switch(place, lock, password_file, digits_file, replace=replace)


@app.command("new-key")
@with_options
def new_key(
    place: Reached,
    paths: Paths = None,
    exclude: Exclude = None,
    skip_unreadable: SkipUnreadable = False,
    password_file: PasswordFile = None,
    digits_file: NewDigitsFile = None,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Give up a new key that does not count yet.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Make a new key and upload everything under it; the old key and its backup are then gone.

    It is locked as the old one is: by a new password, or by new digits.
    """
    from quorumvault.cli import backup_change  # noqa: PLC0415 - heavy

    if abandon:
        backup_change.abandon(place)
        return
    backup_change.new_key(
        place,
        paths or [],
        exclude or [],
        password_file,
        digits_file,
        skip_unreadable=skip_unreadable,
        yes=yes,
    )


@app.command()
@with_options
def disable(
    place: Reached,
    delete_copies: Annotated[
        bool, typer.Option("--delete-copies", help="Also delete the copies in the storage.")
    ] = False,
    keep_copies: Annotated[
        bool,
        typer.Option("--keep-copies", help="Leave the copies; no password opens them any more."),
    ] = False,
    yes: Yes = False,
) -> None:
    """Turn backups off: the key is erased, in the vault and on this device."""
    if delete_copies and keep_copies:
        raise typer.BadParameter("--delete-copies and --keep-copies exclude each other")
    fate = delete_copies if delete_copies or keep_copies else None

    from quorumvault.cli import backup_change  # noqa: PLC0415 - heavy

    backup_change.disable(place, delete_copies=fate, yes=yes)
