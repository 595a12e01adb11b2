"""Reload: the files are read and judged again, and all of what may change changes, or nothing.

By SIGHUP or an operator's POST /v1/reload. A bad file changes nothing and raises an alarm, which
the next good reload takes back. Reading happens beside the loop, using on it and in one step, so
that no request and no handshake sees half of it. Only what a start would take is taken: a reload
cannot have the node run with less than `config validate` demands.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Final

from cluster.certificates import CertificateError, TlsFiles
from node import effective
from node import pair as pairs
from node.config import ConfigError
from node.reload_plan import Running, plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster.cluster_file import ClusterFile, NodeEntry
    from node.events import Events
    from node.reload_plan import Plan

READ_S: Final = 10.0
"""A few small files; a disk that takes longer does not answer."""
ALARM: Final = "configuration"
"""What the alarm of a refused reload begins with."""


def read(path: Path) -> Running:
    """What the files say: the TOML file under the environment, and the TLS files that it names.

    Raises:
        ConfigError: one line with the file, the key and the next step.

    """
    loaded = effective.load(path)
    config = loaded.config
    return Running(loaded, pairs.read(TlsFiles(config.tls_ca, config.tls_cert, config.tls_key)))


class Reloader:
    """What one node runs with, and how that changes.

    Args:
        path: the node's TOML file.
        running: as it was read at the start.
        cluster: the cluster file.
        entry: this node in it.
        use: puts a plan to work; all at once, on the loop. Raises CertificateError or OSError
            before anything has changed.
        events: hears, and has logged, what came of each reload.

    """

    def __init__(
        self,
        path: Path,
        running: Running,
        cluster: ClusterFile,
        entry: NodeEntry,
        use: Callable[[Plan], None],
        events: Events,
    ) -> None:
        self._path = path
        self.running = running
        self._cluster = cluster
        self._entry = entry
        self._use = use
        self._events = events
        self._one = asyncio.Lock()
        self.failed = ""
        """Why the last reload was refused; empty when it was not, or there was none."""

    @property
    def alarms(self) -> list[str]:
        """What an operator must know: that the files are not what the node runs with."""
        return [f"{ALARM}: {self.failed}"] if self.failed else []

    async def reload(self, who: str) -> Plan:
        """Take what the files say; `who` ("operator ada", "SIGHUP") asked for it. One at a time.

        Raises:
            ConfigError: one line; the node goes on as before.

        """
        async with self._one:
            try:
                found = await self._look()
                self._use(found)
            except (ConfigError, CertificateError, OSError) as error:
                line = " ".join(str(error).split())
                self.failed = line
                text = f"asked by {who}: {line}"
                self._events.tell("reload-refused", text, level="error", by=who, reason=line)
                raise ConfigError(line) from None
            self.running = found.outcome
            self.failed = ""
        changed, waits = ", ".join(found.changed), ", ".join(found.needs_restart)
        text = f"by {who}: {changed or 'nothing'} changed"
        if waits:
            text += f"; {waits} needs a restart"
        self._events.tell("reload", text, by=who, changed=changed, needs_restart=waits)
        return found

    async def _look(self) -> Plan:
        try:
            async with asyncio.timeout(READ_S):
                return await asyncio.get_running_loop().run_in_executor(None, self._judge)
        except TimeoutError:
            raise ConfigError(
                f"configuration {self._path} and the files that it names could not be read "
                f"within {READ_S:.0f} s; look at the disk"
            ) from None

    def _judge(self) -> Plan:
        offered = read(self._path)
        node_id = offered.loaded.config.node_id
        if node_id != self._entry.id:
            raise ConfigError(
                f"configuration {self._path}: node_id is {node_id}, and this is node "
                f"{self._entry.id}; take that node's file"
            )
        new, used = offered.pair, self.running.pair
        pairs.check_key(new)
        if new.chain != used.chain:
            pairs.check_successor(new, used, self._cluster, self._entry, dt.datetime.now(dt.UTC))
        return plan(self.running, offered)
