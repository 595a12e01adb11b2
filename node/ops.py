"""The ops listener: plain HTTP for the inside network; reads, and nothing to read that is secret.

`/livez`: the process is worth keeping. `/readyz`: it can serve; `?verbose` names each check.
`/metrics`: Prometheus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from node.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from node.health import Health
    from node.metrics import Metrics

UNKNOWN = "no such page: / (the console), /livez, /readyz?verbose, /metrics\n"


class Ops:
    """Handlers of the ops listener."""

    def __init__(self, health: Health, metrics: Metrics, alive: Callable[[], bool]) -> None:
        self._health = health
        self._metrics = metrics
        self._alive = alive

    async def serve(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="GET only\n")
        match request.path:
            case "/livez":
                alive = self._alive()
                return web.Response(status=200 if alive else 503, text="ok\n" if alive else "no\n")
            case "/readyz":
                return self._ready(verbose="verbose" in request.query)
            case "/metrics":
                self._health.look()
                return web.Response(
                    body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE}
                )
            case _:
                return web.Response(status=404, text=UNKNOWN)

    def _ready(self, *, verbose: bool) -> web.Response:
        _, checks = self._health.look()
        ready = all(check.ok for check in checks)
        verdict = "ready" if ready else "not ready"
        lines = [
            f"[{'+' if check.ok else '-'}] {check.name}: {check.detail}"
            for check in checks
            if verbose or not check.ok
        ]
        return web.Response(status=200 if ready else 503, text="\n".join([*lines, verdict, ""]))
