"""One node's configuration: a TOML file, `QUORUMVAULT_<SECTION>_<KEY>` over it, all validated.

An unknown key is an error, because a misspelt limit that is silently ignored is worse than a node
that does not start (I9). The only secret, the token's PIN, is never a value here but a file. Paths
are relative to the folder of the TOML file. Every error is one line: file, key, next step.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Meta, Struct

from cluster.cluster_file import split_address
from node.hardening import MIN_CLIENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX: Final = "QUORUMVAULT_"
MIN_RSA_BITS: Final = 2048
MAX_CONFIG_BYTES: Final = 1 << 20
MAX_ID_DIGITS: Final = 16
"""Node ids are below 2^53."""
MIN_BODY_BYTES: Final = 4096
"""The largest request, PUT of a registration, has about 2,000 bytes; twice that must pass."""
DEFAULT_MAP_BYTES: Final = 64 << 30
"""LMDB's address space, fixed and large: unused space costs 48 KiB (measured)."""

Algorithm = Literal["EdDSA", "ES256", "RS256"]
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


class ConfigError(Exception):
    """The configuration cannot be used; one line with the file, the key and the next step."""


class _Hsm(Struct, frozen=True, forbid_unknown_fields=True):
    module: str
    token_label: Annotated[str, Meta(min_length=1, max_length=32)]
    pin_file: str


class _Tls(Struct, frozen=True, forbid_unknown_fields=True):
    ca_file: str
    cert_file: str
    key_file: str


class _Listen(Struct, frozen=True, forbid_unknown_fields=True):
    client: str
    peer: str
    admin: str
    ops: str


class _Tenant(Struct, frozen=True, forbid_unknown_fields=True):
    iss: Annotated[str, Meta(min_length=1, max_length=255)]
    alg: Algorithm
    public_key_file: str
    kid: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """How much one node takes on; `account_per_minute` 0 switches that limit off."""

    concurrent_requests: Annotated[int, Meta(ge=1, le=100_000)] = 1024
    account_per_minute: Annotated[int, Meta(ge=0, le=1_000_000)] = 600
    body_bytes: Annotated[int, Meta(ge=MIN_BODY_BYTES, le=1 << 20)] = 8192
    client_connections: Annotated[int, Meta(ge=MIN_CLIENTS, le=60_000)] = 3072


class _Log(Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    file: str | None = None


class _Witness(Struct, frozen=True, forbid_unknown_fields=True):
    file: str | None = None


class _Store(Struct, frozen=True, forbid_unknown_fields=True):
    map_bytes: Annotated[int, Meta(ge=1 << 24, le=1 << 44)] = DEFAULT_MAP_BYTES


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    node_id: Annotated[int, Meta(ge=1, lt=2**53)]
    cluster_file: str
    data_dir: str
    hsm: _Hsm
    tls: _Tls
    listen: _Listen
    tenants: Annotated[tuple[_Tenant, ...], Meta(min_length=1)]
    drain_s: Annotated[float, Meta(ge=0, le=600)] = 10.0
    peers: dict[str, str] = {}
    limits: Limits = Limits()
    log: _Log = _Log()
    witness: _Witness = _Witness()
    store: _Store = _Store()


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who may sign tokens: the algorithm is the key's, never the token's choice."""

    iss: str
    alg: Algorithm
    key: PublicKey
    kid: str | None


@dataclass(frozen=True, slots=True)
class Listen:
    """The four listeners, each (host, port)."""

    client: tuple[str, int]
    peer: tuple[str, int]
    admin: tuple[str, int]
    ops: tuple[str, int]


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything that one node was told, with absolute paths and parsed keys."""

    node_id: int
    cluster_file: Path
    data_dir: Path
    drain_s: float
    hsm_module: Path
    hsm_token_label: str
    hsm_pin_file: Path
    tls_ca: Path
    tls_cert: Path
    tls_key: Path
    listen: Listen
    peer_addresses: Mapping[int, str]
    """Overrides of the cluster file's addresses, by node id."""
    tenants: tuple[Tenant, ...]
    limits: Limits
    log_level: str
    log_file: Path | None
    witness_file: Path | None
    map_bytes: int


_SECTIONS: Final[dict[str, type[Struct]]] = {
    "hsm": _Hsm,
    "tls": _Tls,
    "listen": _Listen,
    "limits": Limits,
    "log": _Log,
    "witness": _Witness,
    "store": _Store,
}
_TOP_LEVEL: Final = ("node_id", "cluster_file", "data_dir", "drain_s")


def load(path: Path, environment: Mapping[str, str] | None = None) -> NodeConfig:
    """Read, override and validate.

    Args:
        path: the TOML file.
        environment: where the overrides are looked up; the process's own by default.

    Raises:
        ConfigError: one line.

    """
    return resolve(path, read_table(path), os.environ if environment is None else environment)


def resolve(path: Path, raw: dict[str, Any], environment: Mapping[str, str]) -> NodeConfig:
    """Validate what was read from `path`; the overrides are put into `raw`.

    Raises:
        ConfigError: one line.

    """
    _override(raw, environment)
    try:
        parsed = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration {path}: {error}; correct that key") from None
    return _resolved(path, parsed)


def read_table(path: Path) -> dict[str, Any]:
    """The file as TOML has it, unjudged.

    Raises:
        ConfigError: it cannot be read, or is not TOML.

    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"configuration {path} cannot be read ({error.strerror}); give its path with --config"
        ) from None
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"configuration {path} is over 1 MiB; give a node's TOML file")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"configuration {path} is not TOML ({reason}); correct it") from None


def _override(raw: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Put `QUORUMVAULT_*` over the file; names outside our sections are somebody else's."""
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        rest = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if rest in _TOP_LEVEL:
            raw[rest] = _typed(_File, rest, environment[name], name)
            continue
        section, _, key = rest.partition("_")
        if section == "peers":
            raw.setdefault("peers", {})[key] = environment[name]
        elif section in _SECTIONS:
            shape = _SECTIONS[section]
            if key not in shape.__struct_fields__:
                raise ConfigError(
                    f"environment variable {name}: {section} has no key {key!r}; unset it or use "
                    f"one of {', '.join(shape.__struct_fields__)}"
                )
            table = raw.setdefault(section, {})
            if isinstance(table, dict):
                table[key] = _typed(shape, key, environment[name], name)


def _typed(shape: type[Struct], key: str, text: str, name: str) -> str | int | float:
    """The text as the key's type: a number where the key is one."""
    wanted = msgspec.inspect.type_info(shape)
    if not isinstance(wanted, msgspec.inspect.StructType):
        raise TypeError(f"{shape} is no struct")
    kind = next(field.type for field in wanted.fields if field.name == key)
    if not isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return text
    try:
        return int(text) if isinstance(kind, msgspec.inspect.IntType) else float(text)
    except ValueError:
        raise ConfigError(f"environment variable {name} must be a number") from None


def _resolved(path: Path, parsed: _File) -> NodeConfig:
    folder = path.absolute().parent

    def absolute(text: str) -> Path:
        return _absolute(path, folder, text)

    listen = Listen(
        **{
            name: _address(path, f"listen.{name}", getattr(parsed.listen, name))
            for name in _Listen.__struct_fields__
        }
    )
    return NodeConfig(
        node_id=parsed.node_id,
        cluster_file=absolute(parsed.cluster_file),
        data_dir=absolute(parsed.data_dir),
        drain_s=parsed.drain_s,
        hsm_module=absolute(parsed.hsm.module),
        hsm_token_label=parsed.hsm.token_label,
        hsm_pin_file=absolute(parsed.hsm.pin_file),
        tls_ca=absolute(parsed.tls.ca_file),
        tls_cert=absolute(parsed.tls.cert_file),
        tls_key=absolute(parsed.tls.key_file),
        listen=listen,
        peer_addresses=_peers(path, parsed.peers),
        tenants=_tenants(path, parsed.tenants, folder),
        limits=parsed.limits,
        log_level=parsed.log.level,
        log_file=absolute(parsed.log.file) if parsed.log.file else None,
        witness_file=absolute(parsed.witness.file) if parsed.witness.file else None,
        map_bytes=parsed.store.map_bytes,
    )


def _absolute(path: Path, folder: Path, text: str) -> Path:
    """A file's name in the configuration; `~` is the home of whoever runs the node."""
    try:
        named = Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"configuration {path}: the home directory in {text!r} is not known; write it out"
        ) from None
    if "\0" in text:
        raise ConfigError(f"configuration {path}: {text!r} is no file name; correct it")
    return folder / named


def _address(path: Path, key: str, text: str) -> tuple[str, int]:
    try:
        return split_address(text)
    except ValueError as error:
        raise ConfigError(f"configuration {path}: {key} {error}") from None


def _peers(path: Path, peers: dict[str, str]) -> dict[int, str]:
    addresses: dict[int, str] = {}
    for node, address in peers.items():
        digits = node.isascii() and node.isdigit() and len(node) <= MAX_ID_DIGITS
        if not (digits and str(int(node)) == node):
            raise ConfigError(f"configuration {path}: peers.{node[:40]} must be a node id")
        _address(path, f"peers.{node}", address)
        addresses[int(node)] = address
    return addresses


def _tenants(path: Path, tenants: tuple[_Tenant, ...], folder: Path) -> tuple[Tenant, ...]:
    named = [(tenant.iss, tenant.kid) for tenant in tenants]
    for name in named:
        if named.count(name) > 1:
            raise ConfigError(
                f"configuration {path}: tenant {name[0]!r} is there twice with kid {name[1]!r}; "
                "give each of its keys its own kid"
            )
    return tuple(
        Tenant(
            iss=tenant.iss,
            alg=tenant.alg,
            key=load_public_key(_absolute(path, folder, tenant.public_key_file), tenant.alg),
            kid=tenant.kid,
        )
        for tenant in tenants
    )


def load_public_key(path: Path, alg: Algorithm) -> PublicKey:
    """A tenant's key, of the kind that its algorithm demands.

    Raises:
        ConfigError: missing, not PEM, of another kind, or too weak.

    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"tenant key {path} cannot be read ({error.strerror}); correct public_key_file"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"tenant key {path} is not a public key in PEM; export it anew") from None
    if alg == "EdDSA" and isinstance(key, Ed25519PublicKey):
        return key
    if alg == "ES256" and isinstance(key, EllipticCurvePublicKey):
        if isinstance(key.curve, SECP256R1):
            return key
        raise ConfigError(f"tenant key {path} is on {key.curve.name}; ES256 needs P-256")
    if alg == "RS256" and isinstance(key, RSAPublicKey):
        if key.key_size >= MIN_RSA_BITS:
            return key
        raise ConfigError(
            f"tenant key {path} has {key.key_size} bits; RS256 needs {MIN_RSA_BITS} or more"
        )
    raise ConfigError(f"tenant key {path} does not fit alg {alg}; correct one of the two")
