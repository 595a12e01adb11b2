"""What `quorumvault backup` enable, create, list, verify and status do; `backup.py` has options.

Apart from them because the library takes a third of a second to import, and help needs none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from quorumvault.backup.create import Check
from quorumvault.backup.errors import AlreadyEnabled, NotEnabled
from quorumvault.cli import backup_ask
from quorumvault.cli.backup import Lock
from quorumvault.cli.backup_ask import talk
from quorumvault.cli.backup_exits import GONE, one_line
from quorumvault.cli.backup_open import absolute, check_storage, check_vault_options, run, shown
from quorumvault.cli.backup_options import Output, Place, Reached
from quorumvault.cli.backup_show import (
    Bars,
    facts_of,
    list_stream,
    moment,
    plain,
    plural,
    print_line,
    say,
    size,
    speed,
    stoppable,
)
from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from quorumvault.backup.client_profile import Status
    from quorumvault.backup.create import Made
    from quorumvault.backup.keeper import Secured
from quorumvault.cli.backup_open import Opened

CHOICE: Final = """\
How is the backup's key to be locked?
  password  You remember a password. The vault keeps the key
            under it, cannot read it, and destroys it after
            ten wrong guesses.
  key       You keep 64 digits yourself, on paper or in a
            password manager. The vault is never asked;
            whoever has the digits and the copies has the
            files."""


def enable(
    place: Reached,
    lock: Lock | None,
    password_file: str | None,
    digits_file: Path | None,
    *,
    replace: bool,
) -> None:
    """Make a key and lock it."""

    def work(opened: Opened) -> None:
        before = opened.backup.status()
        if before.mode != "off":
            if before.unfinished is not None:
                raise AlreadyEnabled(f"{before.unfinished}; see `quorumvault backup status`")
            raise AlreadyEnabled(
                f"backups are on already, by {before.mode}: see `quorumvault backup status`,"
                " `switch`, `change-password`, `new-key`"
            )
        check_storage(opened.settings)
        opened.tell_unfinished()
        way = lock or _lock_of(password_file, digits_file) or ask_lock()
        if way is Lock.PASSWORD:
            check_vault_options(opened.settings)
            anew = may_replace(opened, replace=replace)
            lost_for_ever("the password")
            secret = backup_ask.new_password(password_file, hints(opened))
            talk.print("Locking the key at three data centers …")
            opened.remember()
            secured = opened.backup.enable_with_password(secret, hints=hints(opened), replace=anew)
        else:
            backup_ask.needs_person_or_file(digits_file)
            lost_for_ever("the 64 digits")
            opened.remember()
            digits = opened.backup.make_digits()
            typed = backup_ask.typed_back(digits, digits_file)
            secured = opened.backup.enable_with_digits(typed)
        tell_secured(
            opened,
            secured,
            f"Backups are on, by {secured.mode}. Next: `quorumvault backup create PATHS…`.",
        )

    run(place, work, "The same command goes on with what was begun, or begins anew.")


def _lock_of(password_file: str | None, digits_file: Path | None) -> Lock | None:
    """A file for the one or the other says which."""
    if password_file is not None and digits_file is not None:
        raise typer.BadParameter("--password-file and --digits-file exclude each other")
    if password_file is not None:
        return Lock.PASSWORD
    return Lock.KEY if digits_file is not None else None


def ask_lock() -> Lock:
    """Let the person decide, who is told what each means."""
    if not backup_ask.somebody():
        raise typer.BadParameter("say --password or --key")
    talk.print(CHOICE, markup=False)
    return Lock(backup_ask.choice("Which", [each.value for each in Lock]))


def lost_for_ever(secret: str) -> None:
    """What no support can help with."""
    talk.print(backup_ask.LOST_FOR_EVER.format(secret=secret), style="yellow", markup=False)


def lock_now(opened: Opened) -> Lock:
    """What the key is locked by.

    Raises:
        NotEnabled: by nothing, for there is none.

    """
    mode = opened.backup.status().mode
    if mode == "off":
        raise NotEnabled("backups are off on this device: `quorumvault backup enable` first")
    return Lock.PASSWORD if mode == "password" else Lock.KEY


def may_replace(opened: Opened, *, replace: bool) -> bool:
    """The vault may keep a key of another device's backup: locking a new one destroys it.

    Returns:
        Whether it may go.

    Raises:
        Failure: there is one, and nobody said that it may.

    """
    if replace:
        return True
    with opened.vault() as vault:
        seen = vault.status()
    if seen.mine or seen.state not in {"active", "exhausted"}:
        return False
    stake = (
        "the vault keeps a key for this account already, of a former or another device; a new one"
        " destroys it, and the backup under it can never be opened again"
    )
    if not backup_ask.somebody():
        raise Failure(
            f"{stake}. To get that backup: `quorumvault backup restore`; to go on: --replace",
            Exit.CONFLICT,
        )
    talk.print(f"{stake[0].upper()}{stake[1:]}.", style="yellow", markup=False)
    talk.print("To get that backup first, type `quorumvault backup restore`.", markup=False)
    if not backup_ask.confirmed("Destroy it?"):
        raise Failure("nothing was changed", Exit.CANCELLED)
    return True


def tell_doubts(doubts: Sequence[str]) -> None:
    """What the vault could not confirm about a registration."""
    if doubts:
        talk.print("Not yet confirmed by three data centers:", style="yellow")
        for doubt in doubts:
            talk.print(f"  - {one_line(doubt)}", markup=False)


def tell_secured(opened: Opened, secured: Secured, line: str) -> None:
    """How the key is locked now, and what the vault could not confirm."""
    tell_doubts(secured.doubts)
    if secured.others:
        talk.print(
            "The vault still keeps a key for this account, of another device; it was not touched,"
            " and its password opens what it opened before.",
            style="yellow",
        )
    opened.tell(facts_of(secured), line)


def hints(opened: Opened) -> list[str]:
    """What somebody who knows the owner would try first."""
    return ["quorumvault", *([opened.settings.account] if opened.settings.account else [])]


def create(
    place: Place,
    paths: Sequence[Path],
    exclude: Sequence[str],
    *,
    skip_unreadable: bool,
    check_all: bool,
) -> None:
    """Make a new backup of these paths, or of the last ones."""

    def work(opened: Opened) -> None:
        lock_now(opened)
        what = sources(opened, paths, exclude, skip_unreadable=skip_unreadable)
        former = opened.former.storage
        if former not in {None, opened.settings.storage}:
            talk.print(
                f"Another storage than last time: all is uploaded there, and the copies in"
                f" {one_line(shown(former or ''))} stay.",
                markup=False,
            )
        with Bars(talk) as bars, stoppable(talk) as stop:
            made = opened.backup.create(
                [Path(each) for each in what.paths],
                exclude=what.exclude,
                skip_unreadable=what.skip_unreadable,
                check=Check.ALL if check_all else Check.NEW,
                progress=bars,
                stop=stop,
            )
        opened.remember(
            paths=what.paths, exclude=what.exclude, skip_unreadable=what.skip_unreadable
        )
        tell_made(opened, made, bars.seconds)

    run(
        place,
        work,
        "The older backup is whole. The same command uploads only what is not there yet.",
    )


@dataclass(frozen=True)
class Sources:
    """What is to be backed up, and what of it not; absolute, so that it can be repeated."""

    paths: tuple[str, ...]
    exclude: tuple[str, ...]
    skip_unreadable: bool


def sources(
    opened: Opened, paths: Sequence[Path], exclude: Sequence[str], *, skip_unreadable: bool
) -> Sources:
    """What was given; without paths the ones of last time, with what was left out then.

    Raises:
        typer.BadParameter: neither.

    """
    if paths:
        return Sources(tuple(absolute(each) for each in paths), tuple(exclude), skip_unreadable)
    former = opened.former
    if not former.paths:
        raise typer.BadParameter("say what is to be backed up: PATHS…; the next time it is known")
    both = tuple(dict.fromkeys((*former.exclude, *exclude)))
    return Sources(former.paths, both, former.skip_unreadable or skip_unreadable)


def tell_made(opened: Opened, made: Made, seconds: float) -> None:
    """A line for a person, everything for a script."""
    for each in made.skipped:
        talk.print(f"left out: {one_line(each)}", markup=False)
    tell_doubts(made.doubts)
    what = f"{plural(made.files, 'file')}, {size(made.bytes)}"
    how = f"{seconds:.1f} s{speed(made.bytes, seconds)}; {size(made.uploaded_bytes)} uploaded"
    if made.removed_objects:
        how += f", {plural(made.removed_objects, 'old object')} removed"
    opened.tell(
        facts_of(made) | {"seconds": round(seconds, 3)},
        f"Backup {made.generation} is complete and verified: {what} in {how}.",
    )


# ---------------------------------------------------------------- looking


def list_backups(place: Place) -> None:
    """Every complete backup; after a create that ended well there is one."""

    def work(opened: Opened) -> None:
        found = opened.backup.list()
        if opened.output is Output.JSON:
            say({"backups": plain(found)})
            return
        print_line(f"{'BACKUP':>6}  {'MADE':16}  {'FILES':>9}  {'SIZE':>10}  {'STORED':>10}")
        for each in found:
            print_line(
                f"{each.generation:>6}  {moment(each.created_s):16}  {each.files:>9,}"
                f"  {size(each.bytes):>10}  {size(each.stored_bytes):>10}"
                + (f"  damaged: {each.damage}" if each.damage else "")
            )

    run(place, work, "Nothing was changed.")


def list_files(place: Place, number: int | None) -> None:
    """A line for each file and folder of the newest backup, or of another."""

    def work(opened: Opened) -> None:
        items = opened.backup.files(generation=number)
        if opened.output is Output.JSON:
            list_stream("files", (facts_of(each) for each in items))
            return
        for each in items:
            folder = each.kind == "folder"
            print_line(
                f"{'-' if folder else size(each.size):>10}  {moment(each.mtime_ns / 1e9):16}"
                f"  {each.path}{'/' if folder else ''}"
            )

    run(place, work, "Nothing was changed.")


def verify(place: Place, number: int | None) -> None:
    """Read all of it and check it."""

    def work(opened: Opened) -> None:
        with Bars(talk) as bars, stoppable(talk) as stop:
            checked = opened.backup.verify(generation=number, progress=bars, stop=stop)
        opened.tell(
            facts_of(checked) | {"seconds": round(bars.seconds, 3)},
            f"Backup {checked.generation} is whole: {plural(checked.files, 'file')},"
            f" {size(checked.bytes)} in {plural(checked.objects, 'object')},"
            f" {size(checked.stored_bytes)} stored; read in {bars.seconds:.1f} s.",
        )

    run(place, work, "Nothing was changed; it begins anew.")


def status(place: Reached, *, guesses: bool) -> None:
    """What the device knows; the vault is asked only if told to."""

    def work(opened: Opened) -> None:
        found, storage = opened.backup.status(), opened.settings.storage
        told = facts_of(found) | {
            "storage": None if storage is None else shown(storage),
            "account": opened.settings.account,
            "paths": list(opened.settings.paths),
            "exclude": list(opened.settings.exclude),
            "skip_unreadable": opened.settings.skip_unreadable,
            "profile": str(opened.profile),
        }
        if guesses:
            told["guesses_remaining"] = opened.backup.guesses()
        if opened.output is Output.JSON:
            say(told)
            return
        for name, text in _status_lines(opened, found):
            print_line(f"{name + ':':13} {text}")
        if guesses:
            left = _guesses_left(found, told["guesses_remaining"])
            print_line(f"{'guesses left:':13} {left}")

    run(place, work, "Nothing was changed.", anywhere=True)


def _guesses_left(found: Status, count: object) -> str:
    if found.mode == "digits":
        return "none are counted: with 64 digits the vault is not asked"
    if count is None:
        return "the vault keeps no key"
    if count == 0:
        return f"0; {GONE}"
    return str(count)


def _status_lines(opened: Opened, found: Status) -> Iterator[tuple[str, str]]:
    """What a person wants to know of it; JSON has the rest."""
    yield from _newest_lines(found)
    settings = opened.settings
    if found.unfinished is not None:
        yield "unfinished", found.unfinished
    if settings.paths:
        yield "of", ", ".join(settings.paths)
    if settings.exclude:
        yield "without", ", ".join(settings.exclude)
    if settings.skip_unreadable:
        yield "left out", "what can't be read (--skip-unreadable); name the PATHS again to end that"
    if settings.storage is not None:
        yield "storage", shown(settings.storage)
    if settings.account is not None:
        yield "account", settings.account
    yield "profile", str(opened.profile)


def _newest_lines(found: Status) -> Iterator[tuple[str, str]]:
    """How the key is locked, and how old the backup is."""
    if found.mode == "off":
        yield "backups", "off; `quorumvault backup enable` turns them on, `restore` gets one back"
    else:
        yield "backups", f"on, by {'password' if found.mode == 'password' else '64 digits'}"
        if not found.key_present:
            yield "key", "not on this device: `quorumvault backup restore` gets it back"
        if found.last_created_s is not None:
            yield "last backup", f"{moment(found.last_created_s)}, number {found.generation}"
        elif found.generation:
            yield "last backup", f"number {found.generation}, by another device"
        else:
            yield "last backup", "none yet: `quorumvault backup create PATHS…` makes one"
