"""How `quorumvault record` reaches a vault: by a connection file, or by endpoints and a token.

The account's state file has its name from both, and tells neither.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from quorumvault.vault import Vault

MAX_SECRET_FILE_BYTES: Final = 8192


@dataclasses.dataclass(frozen=True)
class Reach:
    """Where the vault is and who asks; `open_vault` takes state file and timeout."""

    default_state: Path
    open_vault: Callable[[Path, float], Vault]


def leave_no_core() -> None:
    """A crash writes nothing of this process to a disk: it holds a password and a key (I11)."""
    with contextlib.suppress(OSError, ValueError):  # whoever may not lower it has it low
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def reach_of(
    connection_file: Path | None,
    account: str | None,
    endpoints: list[str] | None,
    ca: Path | None,
    token_file: Path | None,
) -> Reach:
    """The way that the options of a command name.

    Raises:
        typer.BadParameter: they name none.
        VaultError: the connection file is unusable.

    """
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


def _by_connection(path: Path, account: str) -> Reach:
    from quorumvault import connection  # noqa: PLC0415 - brings half the SDK, often not needed

    reach = connection.load(path)

    def open_vault(state: Path, timeout_s: float) -> Vault:
        from quorumvault.vault import Vault  # noqa: PLC0415 - heavy, and often not needed

        return Vault(
            reach.endpoints,
            ca_file=reach.ca_file,
            token=lambda: reach.token(account),
            state_file=state,
            cluster_id=reach.cluster_id,
            timeout_s=timeout_s,
        )

    return Reach(_default_state(reach.ca_file, reach.issuer, account), open_vault)


def _by_endpoints(endpoints: list[str], ca: Path, token_file: Path) -> Reach:
    token = small_file(token_file, "--token-file").decode("ascii", errors="replace").strip()
    issuer, subject = _token_owner(token)

    def open_vault(state: Path, timeout_s: float) -> Vault:
        from quorumvault.vault import Vault  # noqa: PLC0415 - heavy, and often not needed

        return Vault(endpoints, ca_file=ca, token=token, state_file=state, timeout_s=timeout_s)

    return Reach(_default_state(ca, issuer, subject), open_vault)


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
    authority = hashlib.sha256(small_file(ca, "the authority's file")).hexdigest()
    name = hashlib.sha256(json.dumps([authority, issuer, account]).encode()).hexdigest()[:32]
    return base / "quorumvault" / f"{name}.json"


def small_file(path: Path, what: str) -> bytes:
    """What the user named with an option `what`, at most 8 KiB of it."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_SECRET_FILE_BYTES)
    except OSError as error:
        raise typer.BadParameter(f"{what} {path}: {error.strerror}") from error
