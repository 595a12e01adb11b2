"""`quorumvault record`: the client SDK for the command line.

Keys go to stdout, talk to stderr. A password is typed hidden, or read from a file or stdin; it is
never an argument, where other users of the machine could read it (I11).
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorumvault._patience import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from quorumvault.cli.record_work import Call

app = typer.Typer(
    help="Register, recover, look at and delete an account's backup key.",
    no_args_is_help=True,
)


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

    from quorumvault.cli import record_work  # noqa: PLC0415 - heavy

    record_work.register(
        _call(connection_file, account, endpoint, ca, token_file, state, timeout, output),
        password_file=password_file,
        key_file=key_file,
        resume=resume,
        abandon=abandon,
        replace=replace,
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
    from quorumvault.cli import record_work  # noqa: PLC0415 - heavy

    record_work.recover(
        _call(connection_file, account, endpoint, ca, token_file, state, timeout, output),
        password_file,
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
    from quorumvault.cli import record_work  # noqa: PLC0415 - heavy

    record_work.status(
        _call(connection_file, account, endpoint, ca, token_file, state, timeout, output)
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

    from quorumvault.cli import record_work  # noqa: PLC0415 - heavy

    record_work.delete(
        _call(connection_file, account, endpoint, ca, token_file, state, timeout, output)
    )


def _call(
    connection_file: Path | None,
    account: str | None,
    endpoint: list[str] | None,
    ca: Path | None,
    token_file: Path | None,
    state: Path | None,
    timeout_s: float,
    output: Output,
) -> Call:
    from quorumvault.cli.record_work import Call  # noqa: PLC0415 - heavy

    return Call(connection_file, account, endpoint, ca, token_file, state, timeout_s, output)
