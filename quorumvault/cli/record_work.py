"""What the commands of `quorumvault record` do; `record.py` has their options.

Apart from them because the SDK takes a third of a second to import, and help needs none of it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec
import typer
from rich.console import Console

from engines.encoding import b64u_decode, b64u_encode
from quorumvault.cli.exits import Exit, Failure
from quorumvault.cli.record import Output
from quorumvault.cli.record_reach import (
    MAX_SECRET_FILE_BYTES,
    leave_no_core,
    reach_of,
    small_file,
)
from quorumvault.cli.vault_exits import exit_code
from quorumvault.errors import Unavailable, VaultError, WrongPassword

if TYPE_CHECKING:
    from collections.abc import Callable

    from quorumvault._record import RecordStatus
    from quorumvault._registration import Registered
    from quorumvault.vault import Vault

talk = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Call:
    """The options that every command has."""

    connection_file: Path | None
    account: str | None
    endpoint: list[str] | None
    ca: Path | None
    token_file: Path | None
    state: Path | None
    timeout_s: float
    output: Output

    def run(self, work: Callable[[Vault], None], *, guessing: bool = False) -> None:
        """Open the vault and do it; an error of the SDK ends the command with its exit code."""
        leave_no_core()
        try:
            reach = reach_of(
                self.connection_file, self.account, self.endpoint, self.ca, self.token_file
            )
        except VaultError as error:
            _fail(error, Output.TEXT, guessing=False)
        try:
            with reach.open_vault(self.state or reach.default_state, self.timeout_s) as vault:
                work(vault)
        except VaultError as error:
            _fail(error, self.output, guessing=guessing)
        except ValueError as error:  # a password or key of impossible length, an odd endpoint
            raise typer.BadParameter(str(error)) from error


def register(
    call: Call,
    *,
    password_file: str | None,
    key_file: Path | None,
    resume: bool,
    abandon: bool,
    replace: bool,
) -> None:
    """Register, or go on with an interrupted registration."""

    def work(vault: Vault) -> None:
        if resume:
            _print_registered(_resumed(vault), call.output)
            return
        if abandon and vault.abandon_registration():
            talk.print("The interrupted registration is forgotten.")
        key = None if key_file is None else _backup_key(key_file)
        if not replace:
            _ask_before_replacing(vault)
        secret = _password(password_file, confirm=True)
        talk.print("Registering at three data centers …")
        _print_registered(vault.register(secret, key), call.output)

    call.run(work)


def recover(call: Call, password_file: str | None) -> None:
    """One guess."""

    def work(vault: Vault) -> None:
        key = vault.recover(_password(password_file, confirm=False))
        text = b64u_encode(key)
        if call.output is Output.JSON:
            _say({"backup_key": text})
        else:
            sys.stdout.write(f"{text}\n")

    call.run(work, guessing=True)


def status(call: Call) -> None:
    """Look."""
    call.run(lambda vault: _print_status(vault.status(), call.output))


def delete(call: Call) -> None:
    """Erase; whoever is asked has been asked."""

    def work(vault: Vault) -> None:
        vault.delete()
        if call.output is Output.JSON:
            _say({"state": "none"})
        else:
            talk.print("Erased.")

    call.run(work)


# ---------------------------------------------------------------- telling


def _ask_before_replacing(vault: Vault) -> None:
    """A new registration destroys the old key; a repeated command line must not do that."""
    if vault.status().state != "active":
        return
    if not sys.stdin.isatty():
        raise Failure(
            "the account has a key already, and registering destroys it: give --replace to do so",
            Exit.CONFLICT,
        )
    typer.confirm(
        "The account has a key already. Registering destroys it for ever. Go on?",
        abort=True,
        err=True,
    )


def _fail(error: VaultError, output: Output, *, guessing: bool) -> NoReturn:
    if output is Output.JSON:
        facts: dict[str, object] = {
            "error": type(error).__name__,
            "message": str(error),
            "charged": error.charged,
        }
        if isinstance(error, WrongPassword):
            facts |= {"guesses_remaining": error.remaining, "verified": error.verified}
        if isinstance(error, Unavailable):
            facts |= {"reason": error.reason, "retry_after": error.retry_after}
        _say(facts)
    counted = f" (guess counted: {error.charged})" if guessing else ""
    raise Failure(f"{error}{counted}", exit_code(error)) from error


def _say(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")


def _resumed(vault: Vault) -> Registered:
    registered = vault.resume_registration()
    if registered is None:
        raise typer.BadParameter("there is no interrupted registration to resume")
    return registered


def _print_registered(registered: Registered, output: Output) -> None:
    if registered.confirmed:
        talk.print("Registered, and three data centers keep exactly what was sealed.")
    else:
        talk.print("Registered, but unconfirmed:", style="yellow")
        for doubt in registered.doubts:
            talk.print(f"  - {doubt}", markup=False)
        talk.print("Run `quorumvault record recover` once all data centers are back to confirm it.")
    key = None if registered.backup_key is None else b64u_encode(registered.backup_key)
    if output is Output.JSON:
        facts: dict[str, object] = {
            "registration_id": b64u_encode(registered.registration_id),
            "backup_key": key,
            "confirmed": registered.confirmed,
            "doubts": list(registered.doubts),
        }
        _say(facts)
    elif key is not None:
        sys.stdout.write(f"{key}\n")
    else:
        talk.print("Its key was known to the interrupted program only; recover shows it.")


def _print_status(seen: RecordStatus, output: Output) -> None:
    registration = None if seen.registration_id is None else b64u_encode(seen.registration_id)
    facts: dict[str, object] = {
        "state": seen.state,
        "guesses_remaining": seen.guesses_remaining,
        "limit": seen.limit,
        "era": seen.era,
        "registration_id": registration,
        "pending": None if seen.pending is None else b64u_encode(seen.pending),
        "receipt": msgspec.to_builtins(seen.receipt),
    }
    if output is Output.JSON:
        _say(facts)
        return
    for name in ("state", "guesses_remaining", "limit", "era", "registration_id", "pending"):
        if facts[name] is not None:
            sys.stdout.write(f"{name}: {facts[name]}\n")


# ---------------------------------------------------------------- secrets


def _password(source: str | None, *, confirm: bool) -> str | bytes:
    if source is not None:
        if source == "-":
            secret = sys.stdin.buffer.read(MAX_SECRET_FILE_BYTES)
        else:
            secret = small_file(Path(source), "--password-file")
        return secret.removesuffix(b"\n").removesuffix(b"\r")
    if not sys.stdin.isatty():
        raise typer.BadParameter("no terminal to type a password: use --password-file FILE or -")
    typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True)
    return typed


def _backup_key(path: Path) -> bytes:
    text = small_file(path, "--key-file").decode("ascii", errors="replace").strip()
    try:
        return b64u_decode(text)
    except ValueError as error:
        raise typer.BadParameter(f"--key-file {path}: the backup key {error}") from error
