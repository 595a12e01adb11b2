"""The pieces of work on a key that can be interrupted, and what may be done about each.

A profile names at most one (`device`); `keeper` does it. What is decided here needs neither disk
nor vault: who has to be asked to go on, what slot `current` may hold, and what the owner is told.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from quorumvault.backup.keys import KeyFolder

Mode: TypeAlias = Literal["off", "password", "digits"]
How: TypeAlias = Literal["password", "digits"]


class Enabling(Struct, frozen=True, forbid_unknown_fields=True, tag="enabling"):
    """Backups are being turned on with the key in slot `next`.

    Attributes:
        key_id: that key's, in hexadecimal.
        how: by password (the vault has been or will be asked) or by digits (shown, not typed yet).
        before: the registration that was active in the vault before, hexadecimal.
        registered: the one that holds the key now; then only this device has to be put right.

    """

    key_id: str
    how: How
    before: str | None = None
    registered: str | None = None


class Changing(Struct, frozen=True, forbid_unknown_fields=True, tag="changing"):
    """The same key is being registered under a new password, from one or from digits."""

    before: str | None = None


class ToDigits(Struct, frozen=True, forbid_unknown_fields=True, tag="to-digits"):
    """The digits were shown; once they are confirmed, the vault's record is to be deleted."""

    confirmed: bool = False


class NewKey(Struct, frozen=True, forbid_unknown_fields=True, tag="new-key"):
    """A new key is in slot `next`; the current one holds until `next` is locked and has a backup.

    Attributes:
        key_id: the new key's.
        how: as the current one is locked.
        confirmed: the new digits were typed back.
        generation: of the first backup under the new key; 0 while there is none.
        created_s: when that was made.
        asking: the vault has been or will be asked to register it; `before` and `registered` as
            in `Enabling`.

    """

    key_id: str
    how: How
    confirmed: bool = False
    generation: int = 0
    created_s: int | None = None
    asking: bool = False
    before: str | None = None
    registered: str | None = None


class Disabling(Struct, frozen=True, forbid_unknown_fields=True, tag="disabling"):
    """Backups are being turned off; there is no way back from here.

    Attributes:
        delete_copies: whether `folders` of the storage are to be emptied.
        folders: of the keys that this device has.
        vault: the vault may hold a record of ours.
        registration: that record's, as far as it is known.

    """

    delete_copies: bool
    folders: tuple[str, ...]
    vault: bool
    registration: str | None


Work: TypeAlias = Enabling | Changing | ToDigits | NewKey | Disabling


def folder_of(key_id: str) -> str:
    """A key's folder in the storage."""
    return KeyFolder(key_id).name


def asks_vault(work: Work) -> bool:
    """Whether going on with it may need the vault."""
    match work:
        case Enabling():
            return work.how == "password" and work.registered is None
        case NewKey():
            return work.asking and work.registered is None
        case Disabling():
            return work.vault
        case Changing():
            return True
        case ToDigits():
            return work.confirmed


def is_in_vault(work: Work | None) -> bool:
    """Whether because of it the vault may keep a key of ours."""
    match work:
        case Enabling() | NewKey():
            return work.how == "password"
        case ToDigits():
            return work.confirmed
        case Changing():
            return True
        case Disabling():
            return work.vault
        case None:
            return False


def waits_for_owner(work: Work) -> bool:
    """Whether only the owner can go on: digits to type, a password to type, files to name."""
    match work:
        case Enabling():
            return work.how == "digits"
        case ToDigits():
            return not work.confirmed
        case NewKey():
            ready = work.confirmed and work.generation > 0
            return not (work.asking or work.registered or ready)
        case Changing() | Disabling():
            return False


def flips(work: Work | None) -> bool:
    """Whether slot `current` may hold the next key already; going on needs this device only."""
    return (
        isinstance(work, Enabling | NewKey) and not waits_for_owner(work) and not asks_vault(work)
    )


def unfinished(work: Work | None) -> str | None:
    """What was begun, for the owner, and what happens next; None when nothing was."""
    match work:
        case None:
            return None
        case Enabling(how="password"):
            return (
                "turning backups on with a password was interrupted; the next call asks the vault"
                " how far it came and finishes it"
            )
        case Enabling():
            return "the 64 digits of a new key were made; backups are on once they are typed back"
        case Changing():
            return (
                "setting a password was interrupted; the next call asks the vault whether the new"
                " one counts, and finishes it; until then the old one may still count"
            )
        case ToDigits(confirmed=True):
            return (
                "the 64 digits count; the vault still keeps the key under the password, and the"
                " next call deletes it there"
            )
        case ToDigits():
            return "the 64 digits were shown; they count once they are typed back"
        case NewKey(asking=True):
            return (
                "locking a new key with a password was interrupted; the next call asks the vault"
                " how far it came and finishes it"
            )
        case NewKey():
            return (
                "a new key was made, the old one still counts; making the new key again goes on"
                " where it was interrupted"
            )
        case Disabling():
            return "turning backups off was interrupted; the next call finishes it"
