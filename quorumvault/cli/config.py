"""``quorumvault config``: is a node's configuration good, and what does it come to.

The PIN is never read: the configuration holds paths alone, so that nothing here needs redacting.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorumvault.cli.exits import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from node.config import NodeConfig

app = typer.Typer(no_args_is_help=True)

Config = Annotated[
    Path, typer.Option("--config", "-c", help="The node's TOML file.", dir_okay=False)
]
Scalar = str | int | float
Row = tuple[str, Scalar, str]
"""Key with its section, value, where it comes from."""

DEFAULT = "default"


class Format(StrEnum):
    """How the configuration is written to stdout."""

    TOML = "toml"
    JSON = "json"


@app.command("validate")
def validate(config: Config) -> None:
    """Check a node's file, the environment over it and its tenants' keys; nothing else is touched.

    Exit code 0, or 2 with one line that names the key.
    """
    loaded = _load(config)
    typer.echo(f"{config}: node {loaded.node_id}, every key is known and valid", err=True)


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
    loaded = _load(config)
    raw = tomllib.loads(config.read_text("utf-8"))
    rows = [
        (key, value, origin)
        for key, value in _flat(loaded, raw, config.absolute().parent)
        if (origin := _origin(key, raw, os.environ)) != DEFAULT or effective
    ]
    if output is Format.JSON:
        shown = {key: {"value": value, "from": origin} for key, value, origin in rows}
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        sys.stdout.write(_toml(rows))


def _load(path: Path) -> NodeConfig:
    from node import config as configuration  # noqa: PLC0415 - heavy

    try:
        return configuration.load(path)
    except configuration.ConfigError as error:
        raise Failure(str(error), Exit.USAGE) from error


def _flat(config: NodeConfig, raw: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Scalar]]:
    """Every key with its value, in the order of docs/node.md; a key that has none is left out."""
    yield "node_id", config.node_id
    yield "cluster_file", str(config.cluster_file)
    yield "data_dir", str(config.data_dir)
    yield "drain_s", config.drain_s
    yield "hsm.module", str(config.hsm_module)
    yield "hsm.token_label", config.hsm_token_label
    yield "hsm.pin_file", str(config.hsm_pin_file)
    yield "tls.ca_file", str(config.tls_ca)
    yield "tls.cert_file", str(config.tls_cert)
    yield "tls.key_file", str(config.tls_key)
    for name in ("client", "peer", "admin", "ops"):
        host, port = getattr(config.listen, name)
        yield f"listen.{name}", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    for name in config.limits.__struct_fields__:
        yield f"limits.{name}", getattr(config.limits, name)
    yield "log.level", config.log_level
    for name, path in (("log.file", config.log_file), ("witness.file", config.witness_file)):
        if path is not None:
            yield name, str(path)
    for node, address in sorted(config.peer_addresses.items()):
        yield f"peers.{node}", address
    yield "store.map_bytes", config.map_bytes
    for number, tenant in enumerate(raw["tenants"]):  # from the file alone, and as it stands there
        for name, value in tenant.items():
            is_path = name == "public_key_file"
            key = f"tenants.{number}.{name}"
            yield key, str(folder / Path(value).expanduser()) if is_path else value


def _origin(key: str, raw: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Either "file" or "default", or the environment variable that went over both."""
    from node.config import ENVIRONMENT_PREFIX  # noqa: PLC0415 - heavy

    section, dot, name = key.partition(".")
    if section == "tenants":
        return "file"
    wanted = key.replace(".", "_")
    for variable in sorted(environment, reverse=True):  # the last one wins
        if variable.removeprefix(ENVIRONMENT_PREFIX).lower() == wanted and variable.startswith(
            ENVIRONMENT_PREFIX
        ):
            return f"environment {variable}"
    table = raw.get(section, {}) if dot else raw
    return "file" if (name if dot else key) in table else DEFAULT


def _toml(rows: list[Row]) -> str:
    """A configuration file that comes to the same, each line with where its value comes from."""
    lines, current = [], ""
    for key, value, origin in rows:
        table, _, name = key.rpartition(".")
        if table != current:
            current = table
            is_tenant = table.startswith("tenants.")
            lines += ["", "[[tenants]]" if is_tenant else f"[{table}]"]
        lines.append(f"{name} = {_value(value)}  # {origin}")
    return "\n".join(lines) + "\n"


def _value(value: Scalar) -> str:
    """TOML's strings are JSON's, but for surrogates and DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
