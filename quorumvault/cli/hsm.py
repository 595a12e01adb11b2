"""``quorumvault hsm``: make a data center's token ready, or take the vault's keys off it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from hsm.errors import HsmError
    from hsm.settings import HsmSettings, Pin

app = typer.Typer(no_args_is_help=True)

MAX_SMALL_FILE_BYTES = 64 * 1024

Module = Annotated[Path, typer.Option("--module", help="The PKCS#11 library.", dir_okay=False)]
Label = Annotated[str, typer.Option("--token-label", help="The token's label.")]
PinFile = Annotated[Path, typer.Option("--pin-file", help="A file with the user PIN.")]


def read_small(path: Path, what: str) -> bytes:
    """Read a file that a person names.

    Raises:
        Failure: it cannot be read, or is too large to be what it should be.

    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SMALL_FILE_BYTES + 1)
    except OSError as error:
        raise Failure(
            f"{what} {path}: {error.strerror}; name an existing file", Exit.USAGE
        ) from error
    if len(data) > MAX_SMALL_FILE_BYTES:
        raise Failure(
            f"{what} {path}: over {MAX_SMALL_FILE_BYTES} bytes; is it the right file?", Exit.USAGE
        )
    return data


def _pin(path: Path) -> Pin:
    from hsm.settings import Pin  # noqa: PLC0415 - heavy

    try:
        return Pin(read_small(path, "PIN file").decode().strip())
    except ValueError as error:
        raise Failure(f"PIN file {path}: {error}", Exit.USAGE) from error


def _settings(module: Path, token_label: str, pin_file: Path) -> HsmSettings:
    from hsm.settings import HsmSettings  # noqa: PLC0415 - heavy

    return HsmSettings(module, token_label, _pin(pin_file))


def _exit_code(error: HsmError) -> Exit:
    from hsm import errors  # noqa: PLC0415 - heavy

    denied = (errors.PinWrong, errors.PinLocked, errors.WordsWrong)
    usage = (errors.ModuleMissing, errors.TokenMissing, errors.PackageBroken, errors.KeyMismatch)
    if isinstance(error, denied):
        return Exit.DENIED
    return Exit.USAGE if isinstance(error, usage) else Exit.UNEXPECTED


def _words(files: list[Path]) -> list[str]:
    if files:
        return [read_small(path, "words file").decode().strip() for path in files]
    if not sys.stdin.isatty():
        lines = [line.strip() for line in sys.stdin if line.strip()]
        if len(lines) != 3:
            raise Failure(
                f"{len(lines)} lines of words on standard input: three custodians are needed, a "
                "line each, or --words-file three times",
                Exit.USAGE,
            )
        return lines
    return [
        typer.prompt(f"Custodian {number} of 3, please type your 33 words", hide_input=True)
        for number in (1, 2, 3)
    ]


@app.command("provision")
def provision(
    cluster_file: Annotated[Path, typer.Option("--cluster-file", help="cluster.json")],
    node: Annotated[int, typer.Option("--node", help="The node that will use this token.")],
    package: Annotated[Path, typer.Option("--package", help="The seat's package.")],
    module: Module,
    token_label: Label,
    pin_file: PinFile,
    words_file: Annotated[
        list[Path] | None,
        typer.Option(help="A custodian's words, three times; without it they are asked for."),
    ] = None,
    init_token: Annotated[
        bool, typer.Option("--init-token", help="Initialise a blank token first.")
    ] = False,
    so_pin_file: Annotated[
        Path | None, typer.Option(help="The security officer's PIN, for --init-token.")
    ] = None,
) -> None:
    """Import a seat's keys with three custodians' words, make the node's own key, and enrol it."""
    from cluster.cluster_file import ClusterFileError, load  # noqa: PLC0415 - heavy
    from cluster.stamp import enrolment  # noqa: PLC0415 - heavy
    from hsm import provisioning  # noqa: PLC0415 - heavy
    from hsm.errors import AlreadyProvisioned, HsmError, TokenExists  # noqa: PLC0415 - heavy

    try:
        cluster = load(cluster_file)
        entry = cluster.node(node)
    except ClusterFileError as error:
        raise Failure(str(error), Exit.USAGE) from error
    words = _words(words_file or [])
    settings = _settings(module, token_label, pin_file)
    make_token = None
    if init_token:
        if so_pin_file is None:
            raise Failure("--init-token needs --so-pin-file as well", Exit.USAGE)
        so_pin = _pin(so_pin_file)
        make_token = partial(
            provisioning.init_token,
            module,
            token_label=token_label,
            so_pin=so_pin,
            pin=settings.pin,
        )
    try:
        provisioning.provision(
            settings,
            package=read_small(package, "package"),
            words=words,
            cluster_id=cluster.cluster_id,
            seat=entry.seat,
            check_values={key: bytes.fromhex(v) for key, v in cluster.check_values.items()},
            enrolment=enrolment(cluster.cluster_id, entry.id),
            threshold=cluster.threshold,
            seats=len(cluster.nodes),
            first=make_token,
        )
    except (AlreadyProvisioned, TokenExists) as error:
        raise Failure(str(error), Exit.CONFLICT) from error
    except HsmError as error:
        raise Failure(str(error), _exit_code(error)) from error
    typer.echo(
        f"token {token_label!r} holds the keys of seat {entry.seat} and enrols node {node}: "
        "start the node with 'quorumvault node run'",
        err=True,
    )


@app.command("destroy")
def destroy(
    module: Module,
    token_label: Label,
    pin_file: PinFile,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask; for scripts that have asked already.")
    ] = False,
) -> None:
    """Destroy every vault key on a token, before its seat goes to another node."""
    from hsm import provisioning  # noqa: PLC0415 - heavy
    from hsm.errors import HsmError  # noqa: PLC0415 - heavy

    if not yes:
        typer.confirm(
            f"Destroy all vault keys on token {token_label!r}? The node that uses it never "
            "starts again.",
            abort=True,
        )
    try:
        count = provisioning.destroy(_settings(module, token_label, pin_file))
    except HsmError as error:
        raise Failure(str(error), _exit_code(error)) from error
    typer.echo(f"{count} objects destroyed on token {token_label!r}", err=True)
