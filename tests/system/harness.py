"""A process cluster on a loop thread of its own, so that tests and clients are free to block."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jwt

from chaos.processes import ProcessCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path


class Vault5:
    """Five running nodes; every method blocks until it is done."""

    def __init__(self, root: Path, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self.cluster: ProcessCluster = self.call(ProcessCluster.create(root, **options))
            self.prepare()
            self.call(self.cluster.start())
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        """For what must be there before the first node starts."""

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def on_loop(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def run() -> Any:
            return function(*arguments)

        return self.call(run())

    @property
    def root(self) -> Path:
        return self.cluster.root

    @property
    def connection_file(self) -> Path:
        return self.cluster.connection_file

    @property
    def connection(self) -> dict[str, Any]:
        return json.loads(self.connection_file.read_text())

    @property
    def ids(self) -> list[int]:
        return list(self.cluster.nodes)

    def url(self, node: int) -> str:
        return f"https://{self.cluster.nodes[node].entry.client}"

    def ops_url(self, node: int) -> str:
        return f"http://{self.cluster.nodes[node].entry.ops}"

    @property
    def ca_file(self) -> str:
        return str(self.root / "cluster" / "ca.pem")

    @property
    def witnesses(self) -> list[Path]:
        return self.cluster.witnesses

    def kill(self, *nodes: int) -> None:
        self.call(self.cluster.kill(*nodes))

    def restart(self, *nodes: int) -> None:
        self.call(self.cluster.start(nodes))

    def spawn(self, *nodes: int) -> None:
        for node in nodes:
            self.call(self.cluster.spawn(node))

    def until_ready(self, *nodes: int) -> None:
        self.call(self.cluster.until_ready(nodes or self.ids))

    def terminate(self, *nodes: int) -> None:
        self.call(self.cluster.terminate(*nodes))

    def token(self, account: str, **changes: Any) -> str:
        """A token as an app's own server would issue it; None drops a claim."""
        now = int(time.time())
        claims = {
            "iss": "demo",
            "sub": account,
            "aud": self.cluster.name,
            "iat": now,
            "exp": now + 3600,
            "scope": "vault:restore vault:manage",
            "device": "primary",
        } | changes
        key = (self.root / "tenant" / "private.pem").read_text()
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key, algorithm="EdDSA")

    def close(self) -> None:
        if hasattr(self, "cluster"):
            self.call(self.cluster.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def vault5(root: Path, **options: Any) -> Iterator[Vault5]:
    running = Vault5(root, **({"wan": "none", "witness": True} | options))
    try:
        yield running
    finally:
        running.close()


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """Poll a condition; its first true value, or a failure that says what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s} s still not: {what}")
        threading.Event().wait(0.05)
