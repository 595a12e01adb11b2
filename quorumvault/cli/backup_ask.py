"""What `quorumvault backup` asks a person: passwords, the 64 digits, and to think before a guess.

Hidden where it is a password; the digits are typed in view, since they are long and were on the
screen a moment ago. Questions go to stderr. Without a terminal nothing is asked: a file answers,
or the command ends with what is missing.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console

from quorumvault._files import sync_folder, write_new
from quorumvault.backup.errors import MistypedDigits, WeakPassword
from quorumvault.cli.backup_exits import one_line
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.record_reach import MAX_SECRET_FILE_BYTES, small_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quorumvault.backup.strength import Strength

talk = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
"""To a person: broken between words, as wide as the terminal is; to a log one line is one line."""

DIGITS: Final = 64
FEW_GUESSES: Final = 3
"""With so few left, a person is asked to think before the next one."""
STRENGTH_STYLES: Final = ("red", "red", "yellow", "green", "green")
LOST_FOR_EVER: Final = (
    "Whoever loses this device and {secret} has lost the backup: nobody can open it then, neither"
    " the storage's operator nor the vault's."
)


def somebody() -> bool:
    """Is there a person who can be asked?"""
    return sys.stdin.isatty() and sys.stderr.isatty()


def line(question: str) -> str:
    """A line typed in view.

    Not by `input`, which writes to stdout, where the data goes.

    Raises:
        EOFError: Ctrl-D.

    """
    sys.stderr.write(f"{question}: ")
    sys.stderr.flush()
    typed = sys.stdin.readline()
    if not typed:
        raise EOFError
    return typed.rstrip("\r\n")


def confirmed(question: str) -> bool:
    """Yes or no, where Return alone is a no; only to be asked when there is somebody."""
    while True:
        typed = line(f"{question} [y/N]").strip().lower()
        if typed in {"y", "yes"}:
            return True
        if typed in {"", "n", "no"}:
            return False


def choice(question: str, answers: Sequence[str]) -> str:
    """One of a few words, or its beginning; asked again until it is."""
    while True:
        word = line(f"{question} ({' or '.join(answers)})").strip().lower()
        fitting = [each for each in answers if word and each.startswith(word)]
        if len(fitting) == 1:
            return fitting[0]


# ---------------------------------------------------------------- passwords


def new_password(source: str | None, hints: Sequence[str] = ()) -> str:
    """A password to lock the key with: strong enough, and typed twice.

    Raises:
        WeakPassword: it came from a file, and can be guessed.
        typer.BadParameter: nobody can be asked, or the file is unusable.

    """
    from quorumvault.backup import strength  # noqa: PLC0415 - zxcvbn's word lists are large

    if source is not None:
        secret = _from_file(source, "--password-file")
        strength.require(secret, hints)
        return secret
    _must_be_somebody("a new password", "--password-file FILE or -")
    while True:
        secret = _hidden("New password")
        if not secret:
            continue
        found = strength.rate(secret, hints)
        _show_strength(found)
        if found.enough:  # then what is too short is still refused
            try:
                strength.require(secret, hints)
            except WeakPassword as weak:
                talk.print(one_line(f"{weak}."), style="yellow", markup=False)
                continue
        else:  # the advice stands there already
            talk.print("It is too easy to guess. Type another one.", style="yellow")
            continue
        if _hidden("The same again") == secret:
            return secret
        talk.print("That was not the same. From the start:")


def old_password(source: str | None) -> str:
    """The password to guess with.

    Raises:
        typer.BadParameter: nobody can be asked, or the file is unusable.

    """
    if source is not None:
        return _from_file(source, "--password-file")
    _must_be_somebody("the password", "--password-file FILE or -")
    while True:
        secret = _hidden("Password")
        if secret:
            return secret


def think_first(remaining: int, *, can_ask: bool, yes: bool, told: bool = False) -> None:
    """Tell how many guesses remain; with few left also what is at stake, and have it confirmed.

    Args:
        remaining: how many.
        can_ask: there is a person.
        yes: `--yes` was given.
        told: the number was on the screen just now, with the answer to the last guess.

    Raises:
        Failure: nobody said yes.

    """
    guesses = "1 guess remains" if remaining == 1 else f"{remaining} guesses remain"
    if remaining > FEW_GUESSES:
        if not told:
            talk.print(f"{guesses}.")
        return
    stake = f"{guesses}; at 0 the key is destroyed for ever, and the backup with it"
    if not remaining:
        stake = (
            "no guess remains, and a new one is refused; but the last one of this device got no"
            " answer, and the same password repeats it, within two minutes"
        )
    if yes:
        return
    if not can_ask:
        raise Failure(
            f"{stake}. If you are sure of the password, give --yes; nothing was tried",
            Exit.DENIED,
        )
    talk.print(f"{stake[0].upper()}{stake[1:]}.", style="yellow")
    if remaining:
        talk.print("Think first: an older password? another keyboard layout? Caps Lock?")
    if not confirmed("Try a password now?" if remaining else "Repeat that guess now?"):
        raise Failure("nothing was tried; the guesses stay as they are", Exit.CANCELLED)


def _hidden(question: str) -> str:
    return getpass.getpass(f"{question}: ", sys.stderr)


def _show_strength(found: Strength) -> None:
    """A bar, words, and what would help."""
    filled = found.score + 1
    bar = "#" * (4 * filled) + "-" * (4 * (5 - filled))
    talk.print(f"\\[{bar}] {found.word}", style=STRENGTH_STYLES[found.score])
    talk.print(
        f"Without the vault's limit of ten guesses it would last {found.crack_time}.", markup=False
    )
    for line in found.advice:
        talk.print(f"  - {line}", markup=False)


def _from_file(source: str, option: str) -> str:
    if source == "-":
        secret = sys.stdin.buffer.read(MAX_SECRET_FILE_BYTES)
    else:
        secret = small_file(Path(source), option)
    try:
        text = secret.decode()
    except UnicodeDecodeError:  # its text would quote the secret
        raise typer.BadParameter(f"{option}: not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise typer.BadParameter(f"{option}: empty")
    return text


def _must_be_somebody(what: str, instead: str) -> None:
    if not somebody():
        raise typer.BadParameter(f"no terminal to type {what}: use {instead}")


# ---------------------------------------------------------------- the 64 digits


def typed_back(shown: str, file: Path | None) -> str:
    """Show the digits, and have them typed back until they are right; what was typed.

    With a file: they are written to it, a new one for the owner alone, and read back. One that an
    interrupted command has written already will do.

    Args:
        shown: 16 groups of 4, in lines.
        file: where to write them instead of asking.

    Raises:
        typer.BadParameter: nobody can be asked, and there is no file; or it can't be written.

    """
    if file is not None:
        return _kept_in(file, shown)
    from quorumvault.backup import digits  # noqa: PLC0415 - only here
    from quorumvault.cli.backup_qr import qr_lines  # noqa: PLC0415 - only here

    talk.print("These 64 digits are the key. Write them down, or scan them:")
    for row in ("", *shown.splitlines(), ""):
        talk.print(row, markup=False)
    for row in qr_lines(shown, talk):
        sys.stderr.write(f"{row}\n")
    talk.print("Keep them where this device is not. Type them back, to be sure that you have them.")
    right = digits.read_digits(shown)
    while True:
        typed = _typed_digits()
        wrong = digits.compare(typed, right)
        if wrong is None:
            break
        _show_mistakes(shown, wrong)
    if confirmed("Right. Clear them off the screen?"):
        sys.stderr.write("\x1b[H\x1b[2J\x1b[3J")
    return typed


def _kept_in(file: Path, shown: str) -> str:
    """What the file holds, now that it holds the digits."""
    if not os.path.lexists(file):
        _write_new(file, shown)
    text = small_file(file, "--digits-file").decode("ascii", errors="replace")
    if text.split() != shown.split():
        raise typer.BadParameter(f"--digits-file {file} holds something else; give a new name")
    talk.print(f"The 64 digits are in {one_line(str(file))}: move it away from here.", markup=False)
    return text


def needs_person_or_file(file: Path | None) -> None:
    """Before a key is made whose digits nobody would ever see.

    Raises:
        typer.BadParameter: neither a person nor a file; or the file holds something else.

    """
    from quorumvault.backup.digits import read_digits  # noqa: PLC0415 - only here

    if file is None:
        _must_be_somebody("the digits back", "--digits-file FILE")
    elif os.path.lexists(file):
        text = small_file(file, "--digits-file").decode("ascii", errors="replace")
        try:
            read_digits(text)
        except MistypedDigits:
            raise typer.BadParameter(
                f"--digits-file {file} is there already and holds something else; give a new name"
            ) from None


def kept_digits(source: str | None, accept: Callable[[str], object]) -> None:
    """The digits that somebody kept, asked for until `accept` takes them.

    Raises:
        MistypedDigits: they came from a file.
        typer.BadParameter: nobody can be asked, or the file is unusable.

    """
    if source is not None:
        accept(_from_file(source, "--digits-file"))
        return
    _must_be_somebody("the 64 digits", "--digits-file FILE or -")
    talk.print("The 64 digits; spaces, dashes, lines and capitals do not matter.")
    while True:
        typed = _typed_digits()
        try:
            accept(typed)
        except MistypedDigits as wrong:
            talk.print(one_line(str(wrong)), style="yellow", markup=False)
            continue
        return


def _typed_digits() -> str:
    """As many lines as it takes to have 64 of them; an empty line ends it sooner."""
    lines: list[str] = []
    while sum(letter.isalnum() for each in lines for letter in each) < DIGITS:
        had = sum(letter.isalnum() for each in lines for letter in each)
        typed = line(f"  {had} so far; the rest, or Return" if lines else "Digits").strip()
        if typed:
            lines.append(typed)
        elif lines:
            break
    return "\n".join(lines)


def _show_mistakes(shown: str, wrong: MistypedDigits) -> None:
    """What was wrong, and where: a mark under each place of the digits as they should be."""
    talk.print(one_line(str(wrong)), style="yellow", markup=False)
    first = 1
    for row in shown.splitlines():
        marks = ""
        for letter in row:
            marks += "^" if letter != " " and first in wrong.positions else " "
            first += letter != " "
        if "^" in marks:
            talk.print(f"  {row}\n  {marks.rstrip()}", markup=False)


def _write_new(path: Path, text: str) -> None:
    """A new file for the owner alone, durably; never over one that is there."""
    try:
        write_new(path, text.rstrip("\n").encode("ascii") + b"\n")
        sync_folder(path.parent)
    except OSError as error:
        raise typer.BadParameter(
            f"--digits-file {path}: {error.strerror}; the key is locked as before"
        ) from error
