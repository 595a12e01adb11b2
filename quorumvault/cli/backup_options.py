"""The options that the commands of `quorumvault backup` have in common.

Eleven commands take them, so they stand here once: `with_options` gives them to a command whose
first parameter is `Place` or `Reached`, and hands them over as that one object.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from quorumvault._patience import DEFAULT_TIMEOUT_S


class Output(StrEnum):
    """How the result is printed to stdout."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which profile, and where its copies are."""

    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            envvar="QUORUMVAULT_STORAGE",
            help="URL of the storage: a folder, file:///…, s3://…, webdav://…, …",
            show_default="the profile's",
        ),
    ] = None
    storage_option: Annotated[
        list[str] | None,
        typer.Option(
            "--storage-option",
            metavar="KEY=VALUE",
            help="For the storage's driver; KEY:=JSON; KEY=@FILE reads a secret from a file.",
        ),
    ] = None
    profile: Annotated[
        str, typer.Option("--profile", help="Which of this device's backups it is about.")
    ] = "default"
    output: Annotated[Output, typer.Option("-o", "--output", help="Format of stdout.")] = (
        Output.TEXT
    )


@dataclass(frozen=True, kw_only=True)
class Reached(Place):
    """The same, and where the vault is."""

    connection_file: Annotated[
        Path | None,
        typer.Option(
            "--connection",
            envvar="QUORUMVAULT_CONNECTION",
            help="Connection file with the tenant's key (as `quorumvault demo` writes it).",
        ),
    ] = None
    account: Annotated[
        str | None, typer.Option("--account", help="The account, with --connection.")
    ] = None
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint", help="https://host:port of a node; repeat for each data center."
        ),
    ] = None
    ca: Annotated[Path | None, typer.Option("--ca", help="PEM of the vault's authority.")] = None
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with the account's bearer token.")
    ] = None
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=1.0, help="Seconds for the vault's part, retries included."),
    ] = DEFAULT_TIMEOUT_S


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of its first parameter's class in place of that parameter."""
    own = inspect.signature(command, eval_str=True).parameters
    first, *others = own.values()
    kind: type[Place] = first.annotation
    names = [field.name for field in fields(kind)]
    shared = inspect.signature(kind, eval_str=True).parameters

    def run(**given: Any) -> None:
        place = kind(**{name: given.pop(name) for name in names})
        command(place, **given)

    parameters = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in (*others, *(shared[name] for name in names))
    ]
    run.__name__, run.__doc__, run.__module__ = (
        command.__name__,
        command.__doc__,
        command.__module__,
    )
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # PEP 362
    return run
