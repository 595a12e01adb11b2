"""`quorumvault record`: the client SDK for the command line.

Keys go to stdout, talk to stderr. A password is typed hidden, or read from a file or stdin; it is
never an argument, where other users of the machine could read it (I11).
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import msgspec
import typer
from rich.console import Console

from engines.encoding import b64u_decode, b64u_encode
from quorumvault import connection
from quorumvault.cli.exits import Exit, Failure
from quorumvault.errors import (
    Conflict,
    Denied,
    Exhausted,
    Locked,
    NotRegistered,
    StateFileError,
    Superseded,
    Unavailable,
    Unfinished,
    VaultError,
    WrongPassword,
)
from quorumvault.vault import DEFAULT_TIMEOUT_S, Vault

if TYPE_CHECKING:
    from collections.abc import Callable

    from quorumvault._record import RecordStatus
    from quorumvault._registration import Registered

app = typer.Typer(
    help="Register, recover, look at and delete an account's backup key.",
    no_args_is_help=True,
)
talk = Console(stderr=True, highlight=False)

_EXIT_OF_REASON: Final = {
    "unreachable": Exit.CONNECTION,
    "timeout": Exit.TIMEOUT,
    "no-quorum": Exit.NO_QUORUM,
    "hsm-unavailable": Exit.NO_QUORUM,  # fewer than three can evaluate
}
_EXIT_OF_ERROR: Final[tuple[tuple[type[VaultError], Exit], ...]] = (
    (connection.ConnectionFileError, Exit.USAGE),
    (StateFileError, Exit.CONFLICT),
    (WrongPassword, Exit.DENIED),
    (Exhausted, Exit.DENIED),
    (Locked, Exit.DENIED),
    (Denied, Exit.DENIED),
    (NotRegistered, Exit.NOT_FOUND),
    (Superseded, Exit.CONFLICT),
    (Conflict, Exit.CONFLICT),
    (Unfinished, Exit.CONFLICT),
)
MAX_SECRET_FILE_BYTES: Final = 8192


class Output(StrEnum):
    """How the result is printed to stdout."""

    TEXT = "text"
    JSON = "json"


ConnectionFile = Annotated[
    Path | None,
    typer.Option(
        "--connection",
        envvar="QUORUMVAULT_CONNECTION",
        help="Connection file with the tenant's key (as `quorumvault demo` writes it).",
    ),
]
Account = Annotated[str | None, typer.Option("--account", help="The account, with --connection.")]
Endpoints = Annotated[
    list[str] | None,
    typer.Option("--endpoint", help="https://host:port of a node; repeat for each data center."),
]
Ca = Annotated[Path | None, typer.Option("--ca", help="PEM of the vault's authority.")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="File with the account's bearer token.")
]
StatePath = Annotated[
    Path | None,
    typer.Option(
        "--state", help="State file.", show_default="one per account under XDG_STATE_HOME"
    ),
]
PasswordFile = Annotated[
    str | None,
    typer.Option("--password-file", help="Read the password from a file; - is stdin."),
]
Format = Annotated[Output, typer.Option("-o", "--output", help="Format of stdout.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=1.0, help="Seconds for the whole call, retries included.")
]


@app.command()
def register(
    connection_file: ConnectionFile = None,
    account: Account = None,
    endpoint: Endpoints = None,
    ca: Ca = None,
    token_file: TokenFile = None,
    state: StatePath = None,
    password_file: PasswordFile = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="Backup key as base64url.", show_default="a random one"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish an interrupted registration.")
    ] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Forget an interrupted registration first.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Destroy the key that the account has already.")
    ] = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    output: Format = Output.TEXT,
) -> None:
    """Lock a backup key under a password; prints the key."""
    if resume and abandon:
        raise typer.BadParameter("--resume and --abandon exclude each other")

    def work(vault: Vault) -> None:
        if resume:
            _print_registered(_resumed(vault), output)
            return
        if abandon and vault.abandon_registration():
            talk.print("The interrupted registration is forgotten.")
        key = None if key_file is None else _backup_key(key_file)
        if not replace:
            _ask_before_replacing(vault)
        secret = _password(password_file, confirm=True)
        talk.print("Registering at three data centers …")
        _print_registered(vault.register(secret, key), output)

    _with_vault(
        _reach(connection_file, account, endpoint, ca, token_file), state, timeout, output, work
    )


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


@app.command()
def recover(
    connection_file: ConnectionFile = None,
    account: Account = None,
    endpoint: Endpoints = None,
    ca: Ca = None,
    token_file: TokenFile = None,
    state: StatePath = None,
    password_file: PasswordFile = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    output: Format = Output.TEXT,
) -> None:
    """Get the backup key back with the password; a wrong one costs a guess."""

    def work(vault: Vault) -> None:
        key = vault.recover(_password(password_file, confirm=False))
        text = b64u_encode(key)
        if output is Output.JSON:
            _say({"backup_key": text})
        else:
            sys.stdout.write(f"{text}\n")

    _with_vault(
        _reach(connection_file, account, endpoint, ca, token_file),
        state,
        timeout,
        output,
        work,
        guessing=True,
    )


@app.command()
def status(
    connection_file: ConnectionFile = None,
    account: Account = None,
    endpoint: Endpoints = None,
    ca: Ca = None,
    token_file: TokenFile = None,
    state: StatePath = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    output: Format = Output.TEXT,
) -> None:
    """Show what the vault keeps for the account; costs nothing."""

    def work(vault: Vault) -> None:
        _print_status(vault.status(), output)

    _with_vault(
        _reach(connection_file, account, endpoint, ca, token_file), state, timeout, output, work
    )


@app.command()
def delete(
    connection_file: ConnectionFile = None,
    account: Account = None,
    endpoint: Endpoints = None,
    ca: Ca = None,
    token_file: TokenFile = None,
    state: StatePath = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    output: Format = Output.TEXT,
) -> None:
    """Erase the account's key for ever."""
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("deleting needs --yes when nobody can be asked")
        typer.confirm("Erase the account's key for ever?", abort=True, err=True)

    def work(vault: Vault) -> None:
        vault.delete()
        if output is Output.JSON:
            _say({"state": "none"})
        else:
            talk.print("Erased.")

    _with_vault(
        _reach(connection_file, account, endpoint, ca, token_file), state, timeout, output, work
    )


# ---------------------------------------------------------------- how to reach the vault


@dataclasses.dataclass(frozen=True)
class _Reach:
    """Where the vault is and who asks; `open_vault` takes state file and timeout."""

    default_state: Path
    open_vault: Callable[[Path, float], Vault]


def _reach(
    connection_file: Path | None,
    account: str | None,
    endpoints: list[str] | None,
    ca: Path | None,
    token_file: Path | None,
) -> _Reach:
    if endpoints:
        if ca is None or token_file is None:
            raise typer.BadParameter("--endpoint needs --ca and --token-file")
        return _by_endpoints(endpoints, ca, token_file)
    if connection_file is None:
        raise typer.BadParameter(
            "say where the vault is: --connection FILE (or $QUORUMVAULT_CONNECTION) with"
            " --account, or --endpoint, --ca and --token-file"
        )
    if not account:
        raise typer.BadParameter("--connection needs --account")
    return _by_connection(connection_file, account)


def _by_connection(path: Path, account: str) -> _Reach:
    try:
        reach = connection.load(path)
    except VaultError as error:
        _fail(error, Output.TEXT, guessing=False)

    def open_vault(state: Path, timeout_s: float) -> Vault:
        return Vault(
            reach.endpoints,
            ca_file=reach.ca_file,
            token=lambda: reach.token(account),
            state_file=state,
            cluster_id=reach.cluster_id,
            timeout_s=timeout_s,
        )

    return _Reach(_default_state(reach.ca_file, reach.issuer, account), open_vault)


def _by_endpoints(endpoints: list[str], ca: Path, token_file: Path) -> _Reach:
    token = _small_file(token_file, "--token-file").decode("ascii", errors="replace").strip()
    issuer, subject = _token_owner(token)

    def open_vault(state: Path, timeout_s: float) -> Vault:
        return Vault(endpoints, ca_file=ca, token=token, state_file=state, timeout_s=timeout_s)

    return _Reach(_default_state(ca, issuer, subject), open_vault)


class _Claims(msgspec.Struct):
    iss: str
    sub: str


def _token_owner(token: str) -> tuple[str, str]:
    """Whose state file to use; the vault, not this program, verifies the token."""
    parts = token.split(".")
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = msgspec.json.decode(payload, type=_Claims)
    except (IndexError, ValueError, RecursionError) as error:
        raise typer.BadParameter("--token-file does not hold a JWT with iss and sub") from error
    return claims.iss, claims.sub


def _default_state(ca: Path, issuer: str, account: str) -> Path:
    """One file per vault and account, its name telling neither."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    authority = hashlib.sha256(_small_file(ca, "the authority's file")).hexdigest()
    name = hashlib.sha256(json.dumps([authority, issuer, account]).encode()).hexdigest()[:32]
    return base / "quorumvault" / f"{name}.json"


# ---------------------------------------------------------------- running and telling


def _with_vault(
    reach: _Reach,
    state: Path | None,
    timeout_s: float,
    output: Output,
    work: Callable[[Vault], None],
    *,
    guessing: bool = False,
) -> None:
    try:
        with reach.open_vault(state or reach.default_state, timeout_s) as vault:
            work(vault)
    except VaultError as error:
        _fail(error, output, guessing=guessing)
    except ValueError as error:  # a password or key of impossible length, an odd endpoint
        raise typer.BadParameter(str(error)) from error


def exit_code(error: VaultError) -> Exit:
    """The exit code of design section 8 for an error of the SDK."""
    if isinstance(error, Unavailable):
        return _EXIT_OF_REASON.get(error.reason, Exit.DEGRADED)
    known = (code for kind, code in _EXIT_OF_ERROR if isinstance(error, kind))
    return next(known, Exit.UNEXPECTED)


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


def _password(source: str | None, *, confirm: bool) -> bytes:
    if source is not None:
        if source == "-":
            secret = sys.stdin.buffer.read(MAX_SECRET_FILE_BYTES)
        else:
            secret = _small_file(Path(source), "--password-file")
        return secret.removesuffix(b"\n").removesuffix(b"\r")
    if not sys.stdin.isatty():
        raise typer.BadParameter("no terminal to type a password: use --password-file FILE or -")
    typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True)
    return typed.encode()


def _backup_key(path: Path) -> bytes:
    text = _small_file(path, "--key-file").decode("ascii", errors="replace").strip()
    try:
        return b64u_decode(text)
    except ValueError as error:
        raise typer.BadParameter(f"--key-file {path}: the backup key {error}") from error


def _small_file(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_SECRET_FILE_BYTES)
    except OSError as error:
        raise typer.BadParameter(f"{what} {path}: {error.strerror}") from error
