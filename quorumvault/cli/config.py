"""``quorumvault config``: is a node's configuration good, and what does it come to.

The PIN is never read: the configuration holds paths alone, so that nothing here needs redacting.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from node.effective import Loaded, Setting

app = typer.Typer(no_args_is_help=True)

Config = Annotated[
    Path, typer.Option("--config", "-c", help="The node's TOML file.", dir_okay=False)
]
DEFAULT = "default"
"""As in node.effective, which is heavy to import."""


class Format(StrEnum):
    """How the configuration is written to stdout."""

    TOML = "toml"
    JSON = "json"


@app.command("validate")
def validate(config: Config) -> None:
    """Check a node's file, the environment over it and its tenants' keys; nothing else is touched.

    Exit code 0, or 2 with one line that names the key.
    """
    node_id = _load(config).config.node_id
    typer.echo(f"{config}: node {node_id}, every key is known and valid", err=True)


@app.command("show")
def show(
    config: Config,
    effective: Annotated[
        bool, typer.Option("--effective", help="With the defaults; without: only what was set.")
    ] = False,
    output: Annotated[Format, typer.Option("--output", "-o", help="toml or json.")] = Format.TOML,
) -> None:
    """Show what a node would run with, and where each value comes from.

    Paths are shown absolute, as the node uses them. Exit code 2 when the configuration is not good.
    """
    rows = [row for row in _load(config).settings if row.source != DEFAULT or effective]
    if output is Format.JSON:
        shown = {row.key: {"value": row.value, "from": row.source} for row in rows}
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        sys.stdout.write(_toml(rows))


def _load(path: Path) -> Loaded:
    from node import effective  # noqa: PLC0415 - heavy
    from node.config import ConfigError  # noqa: PLC0415 - heavy

    try:
        return effective.load(path)
    except ConfigError as error:
        raise Failure(str(error), Exit.USAGE) from error


def _toml(rows: list[Setting]) -> str:
    """A configuration file that comes to the same, each line with where its value comes from."""
    lines, current = [], ""
    for row in rows:
        table, _, name = row.key.rpartition(".")
        if table != current:
            current = table
            is_tenant = table.startswith("tenants.")
            lines += ["", "[[tenants]]" if is_tenant else f"[{table}]"]
        lines.append(f"{name} = {_value(row.value)}  # {row.source}")
    return "\n".join(lines) + "\n"


def _value(value: str | float) -> str:
    """TOML's strings are JSON's, but for surrogates and DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
