"""What a node's configuration comes to: each key with its value and where that is from.

One list for whoever shows it (`config show`, `GET /v1/config`) and for the reload that compares two
of them. The PIN and the TLS key are files here, never values, so nothing needs to be left out.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from node import config as configuration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from node.config import NodeConfig

Scalar = str | int | float
DEFAULT: Final = "default"


class Setting(Struct, frozen=True):
    """One key; `source` is "file", "default" or "environment NAME"."""

    key: str
    value: Scalar
    source: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where each of its values is from."""

    config: NodeConfig
    settings: tuple[Setting, ...]


def load(path: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """Read, override and validate; the file is read once.

    Raises:
        ConfigError: one line.

    """
    environment = os.environ if environment is None else environment
    raw = configuration.read_table(path)
    config = configuration.resolve(path, copy.deepcopy(raw), environment)
    rows = _flat(config, raw, path.absolute().parent)
    return Loaded(
        config, tuple(Setting(key, value, _source(key, raw, environment)) for key, value in rows)
    )


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


def _source(key: str, raw: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    section, dot, name = key.partition(".")
    if section == "tenants":
        return "file"
    wanted = key.replace(".", "_")
    for variable in sorted(environment, reverse=True):  # the last one wins
        if variable.startswith(configuration.ENVIRONMENT_PREFIX) and (
            variable.removeprefix(configuration.ENVIRONMENT_PREFIX).lower() == wanted
        ):
            return f"environment {variable}"
    table = raw.get(section, {}) if dot else raw
    return "file" if (name if dot else key) in table else DEFAULT
