"""What a reload comes to (pure): from what the node runs with to what its files say now.

Log level, limits, tenants, certificate and key change while the node runs. Everything else that
differs is told, and stays as it is until the next start; it is told again at each reload until
then, because the comparison is always with what the node runs with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from node.effective import Loaded

if TYPE_CHECKING:
    from node.effective import Setting
    from node.pair import Pair

LIVE: Final = ("log.level", "limits", "tenants", "tls.cert", "tls.key")
_NAMES: Final = {"tls.cert_file": "tls.cert", "tls.key_file": "tls.key", "tls.ca_file": "tls.ca"}
"""A file's path and its content are one setting to whoever reloads."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a node runs with."""

    loaded: Loaded
    pair: Pair


@dataclass(frozen=True, slots=True)
class Plan:
    """The names of what changes and of what only a restart would change, and the outcome."""

    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]
    outcome: Running


def plan(running: Running, offered: Running) -> Plan:
    """Everything that differs, in the order of docs/node.md."""
    before = {row.key: row for row in running.loaded.settings}
    after = {row.key: row for row in offered.loaded.settings}
    differs = {
        _name(key)
        for key in before.keys() | after.keys()
        if key not in before or key not in after or before[key].value != after[key].value
    } | _contents(running, offered)
    order = [_name(key) for key in {**before, **after}]
    names = tuple(name for name in dict.fromkeys(order) if name in differs)
    return Plan(
        changed=tuple(name for name in names if is_live(name)),
        needs_restart=tuple(name for name in names if not is_live(name)),
        outcome=_outcome(running, offered, before, after),
    )


def is_live(name: str) -> bool:
    """It changes while the node runs."""
    return name in LIVE or name.partition(".")[0] in LIVE


def _name(key: str) -> str:
    return "tenants" if key.startswith("tenants.") else _NAMES.get(key, key)


def _contents(running: Running, offered: Running) -> set[str]:
    """Files whose content differs."""
    old, new = running.pair, offered.pair
    found = set()
    if old.chain != new.chain:
        found.add("tls.cert")
    if old.own.public_key() != new.own.public_key():
        found.add("tls.key")
    if old.authorities != new.authorities:
        found.add("tls.ca")
    if running.loaded.config.tenants != offered.loaded.config.tenants:
        found.add("tenants")
    return found


def _outcome(
    running: Running, offered: Running, before: dict[str, Setting], after: dict[str, Setting]
) -> Running:
    new = offered.loaded.config
    config = replace(
        running.loaded.config,
        log_level=new.log_level,
        limits=new.limits,
        tenants=new.tenants,
        tls_cert=new.tls_cert,
        tls_key=new.tls_key,
    )
    settings = []
    for key in {**before, **after}:
        old, row = before.get(key), after.get(key)
        same = old is not None and row is not None and old.value == row.value
        kept = row if same or is_live(_name(key)) else old
        if kept is not None:
            settings.append(kept)
    pair = replace(offered.pair, authorities=running.pair.authorities)
    return Running(Loaded(config, tuple(settings)), pair)
