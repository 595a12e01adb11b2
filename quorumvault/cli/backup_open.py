"""Opens the backup that a command is about, and ends the command as its errors say.

What a command is not told, the profile knows; what both know, the command line decides.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import typer

from quorumvault._patience import DEFAULT_TIMEOUT_S
from quorumvault._state import StateFile
from quorumvault.backup import storage_names
from quorumvault.backup.client import Backup
from quorumvault.backup.device import VAULT_FILE
from quorumvault.backup.errors import BackupError, Cancelled, Damaged
from quorumvault.backup.storage import Storage
from quorumvault.cli import backup_profile
from quorumvault.cli.backup_ask import talk
from quorumvault.cli.backup_exits import Told, exit_code, facts, message, one_line
from quorumvault.cli.backup_options import Output, Place, Reached
from quorumvault.cli.backup_show import say
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.record_reach import leave_no_core, reach_of
from quorumvault.errors import VaultError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quorumvault.cli.backup_profile import Settings
    from quorumvault.vault import Vault

MAX_TOLD: Final = 20
"""Damaged files that are named one by one; JSON names them all."""


@dataclass(frozen=True)
class Opened:
    """A profile with the options of the command line put over it.

    Attributes:
        settings: both together.
        former: what the profile had.
        vault: opens it beside the client, to look at the account.

    """

    backup: Backup
    profile: Path
    settings: Settings
    former: Settings
    output: Output
    vault: Callable[[], Vault]

    def remember(self, **changes: object) -> None:
        """Keep the settings, with these changes, for the next command."""
        kept = msgspec.structs.replace(self.settings, **changes)
        if kept != self.former:
            backup_profile.save(self.profile, kept)

    def tell_unfinished(self) -> None:
        """What an earlier command began and did not end."""
        unfinished = self.backup.status().unfinished
        if unfinished is not None:
            talk.print(one_line(f"{unfinished[0].upper()}{unfinished[1:]}."), markup=False)

    def tell(self, told: dict[str, object], *lines: str) -> None:
        """The result: JSON on stdout, or lines for a person on stderr."""
        if self.output is Output.JSON:
            say(told)
            return
        for each in lines:
            talk.print(one_line(each), markup=False)


def run(
    place: Place, work: Callable[[Opened], None], again: str, *, anywhere: bool = False
) -> None:
    """Do `work` with the backup of the options; what is raised ends the command.

    Args:
        place: the options.
        work: what to do.
        again: after Ctrl-C: what the same command will do next time.
        anywhere: the copies are not needed, so nobody has to say where they are.

    """
    leave_no_core()
    with _ending(place.output, again):
        profile = backup_profile.folder(place.profile)
        former = backup_profile.load(profile)
        settings = merged(former, place)
        open_vault = _for_account(profile, former, settings, opener(settings, place))
        backup = Backup(
            settings.storage if anywhere else needed_storage(settings),
            profile,
            vault=open_vault,
            storage_options=backup_profile.option_values(settings.storage_options),
        )
        with backup:
            _check_account(backup, former, settings)
            vault_file = profile / VAULT_FILE
            work(
                Opened(
                    backup, profile, settings, former, place.output, lambda: open_vault(vault_file)
                )
            )


@contextmanager
def _ending(output: Output, again: str) -> Iterator[None]:
    """Whatever ends the command early is told as `output` says, with its exit code."""
    try:
        yield
    except (KeyboardInterrupt, EOFError, Cancelled) as error:
        if talk.is_terminal and not isinstance(error, Cancelled):
            talk.print()  # the question, and ^C behind it, have their line to themselves
        stopped = Failure(f"stopped. {again}", Exit.CANCELLED)
        _say_of(output, "Cancelled", str(stopped))
        raise stopped from error
    except (BackupError, VaultError) as error:
        _fail(error, output)
    except Told:
        raise
    except Failure as failure:
        _say_of(output, failure.exit_code.name.capitalize(), str(failure))
        raise
    except typer.BadParameter as error:
        _say_of(output, "Usage", error.message)
        raise
    except OSError as error:
        _say_of(output, "OSError", str(error))
        raise
    except ValueError as error:  # an odd endpoint, a password of impossible length
        _say_of(output, "Usage", str(error))
        raise typer.BadParameter(one_line(str(error))) from error


def _say_of(output: Output, error: str, message: str) -> None:
    if output is Output.JSON:
        say({"error": error, "message": one_line(message)})


def needed_storage(settings: Settings) -> str:
    """Where the copies are.

    Raises:
        typer.BadParameter: nobody has said it.

    """
    if settings.storage is None:
        raise typer.BadParameter(
            "say where the copies are, or shall be: --storage URL (or $QUORUMVAULT_STORAGE), a"
            " folder, s3://…, webdav://…; this device knows of no backup yet (`quorumvault backup"
            " enable` turns them on)"
        )
    return settings.storage


def check_storage(settings: Settings) -> None:
    """Before a key is made for it: is there such a storage? It is not asked for anything yet.

    Raises:
        StorageError: the URL or an option means nothing, or a package is missing.

    """
    options = backup_profile.option_values(settings.storage_options)
    Storage(needed_storage(settings), options).close()


def shown(url: str) -> str:
    """The storage's URL without what may be a credential."""
    return storage_names.place(url).shown


def merged(former: Settings, place: Place) -> Settings:
    """The profile's settings under what the command line says."""
    changes: dict[str, object] = {}
    if place.storage is not None:
        backup_profile.check_url(place.storage)
        changes["storage"] = storage_names.lasting(place.storage)
        if changes["storage"] != former.storage:
            changes["storage_options"] = ()  # they were another provider's
    if place.storage_option:
        changes["storage_options"] = backup_profile.storage_options(place.storage_option)
    if isinstance(place, Reached):
        if place.endpoint:
            changes |= {"endpoints": tuple(place.endpoint), "connection": None}
        elif place.connection_file is not None:
            changes |= {"connection": absolute(place.connection_file), "endpoints": ()}
        for name, given in (("ca", place.ca), ("token_file", place.token_file)):
            if given is not None:
                changes[name] = absolute(given)
        if place.account is not None:
            changes["account"] = place.account
    return msgspec.structs.replace(former, **changes)


def opener(settings: Settings, place: Place) -> Callable[[Path], Vault]:
    """How the client reaches the vault, if it ever has to: in digits mode it never does."""

    def open_vault(state: Path) -> Vault:
        timeout_s = place.timeout if isinstance(place, Reached) else DEFAULT_TIMEOUT_S
        return reach_of(*vault_options(settings)).open_vault(state, timeout_s)

    return open_vault


def _check_account(backup: Backup, former: Settings, settings: Settings) -> None:
    """A profile is of one account, from when its key is under a password.

    Raises:
        Failure: another one is named.

    """
    if settings.account != former.account and backup.status().mode == "password":
        raise Failure(
            f"this profile is of the account {former.account}: for another one take another"
            " profile (--profile NAME)",
            Exit.CONFLICT,
        )


def _for_account(
    profile: Path, former: Settings, settings: Settings, open_vault: Callable[[Path], Vault]
) -> Callable[[Path], Vault]:
    """Begin a fresh state file where the one that is there is of another account.

    What the vault answered for a mistyped name must not be held against the right one. So the
    profile keeps the name before the vault is asked for the first time.
    """
    if settings.account in {None, former.account}:
        return open_vault

    def first(state: Path) -> Vault:
        now = backup_profile.load(profile)
        if now.account == settings.account:  # it was opened before
            return open_vault(state)
        if now.account is not None:
            file = StateFile(state)
            with file.locked():
                if file.load().registration is not None:
                    raise Failure(
                        f"something begun for the account {now.account} waits to be ended: give"
                        " that account, or another --profile",
                        Exit.CONFLICT,
                    )
                state.unlink(missing_ok=True)
        backup_profile.save(profile, msgspec.structs.replace(now, account=settings.account))
        return open_vault(state)

    return first


VaultOptions = tuple[Path | None, str | None, list[str] | None, Path | None, Path | None]


def vault_options(settings: Settings) -> VaultOptions:
    """The settings as `reach_of` takes them."""
    return (
        None if settings.connection is None else Path(settings.connection),
        settings.account,
        list(settings.endpoints),
        None if settings.ca is None else Path(settings.ca),
        None if settings.token_file is None else Path(settings.token_file),
    )


def check_vault_options(settings: Settings) -> None:
    """Before anything is asked or made: do the options say where the vault is?

    Raises:
        typer.BadParameter, ConnectionFileError: they do not.

    """
    reach_of(*vault_options(settings))


def absolute(path: Path) -> str:
    """The same wherever the next command is typed."""
    return os.path.abspath(path)  # noqa: PTH100 - links are kept as they are named


def _fail(error: BackupError | VaultError, output: Output) -> NoReturn:
    told = message(error)
    if output is Output.JSON:
        say(facts(error) | {"message": told})
    elif isinstance(error, Damaged):
        for each in error.files[:MAX_TOLD]:
            talk.print(f"damaged: {one_line(each)}", markup=False)
        if len(error.files) > MAX_TOLD:
            talk.print(f"and {len(error.files) - MAX_TOLD} more (-o json names them)")
    raise Failure(told, exit_code(error)) from error
