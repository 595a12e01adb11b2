"""Five admin listeners that answer what a test says: real sockets and TLS, no vault behind them."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from uuid import UUID

import five_reports
import msgspec

from cluster.certificates import create_authority, issue, node_uri, operator_uri

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NO_HTTP = 0
"""As a status: the document's bytes are all that is sent."""
CLUSTER = UUID("00000000-0000-0000-0000-000000000007")


def problem(status: int, code: str, detail: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return status, {"status": status, "code": code, "detail": detail, **more}


class Desks:
    """`answers[node]` maps "METHOD /path" to (status, document) or a function that gives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[int, str, bytes]] = []
        self.reports = five_reports.five()
        self.answers: dict[int, dict[str, Any]] = {node: {} for node in self.reports}
        self.urls: dict[int, str] = {}
        self._servers: dict[int, ThreadingHTTPServer] = {}
        self._authority = create_authority("test")
        (folder / "ca.pem").write_bytes(self._authority.cert_pem)
        self._write("operator", operator_uri(CLUSTER, "ada"), server=False)
        for node in self.reports:
            self._write(f"node-{node}", node_uri(CLUSTER, node), server=True)
            self.start(node)

    def _write(self, name: str, uri: str, *, server: bool) -> None:
        issued = issue(
            self._authority, uri=uri, hosts=["127.0.0.1"], days=2, server=server, client=True
        )
        (self.folder / f"{name}.pem").write_bytes(issued.cert_pem)
        (self.folder / f"{name}.key").write_bytes(issued.key_pem)

    def start(self, node: int) -> None:
        desks = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, document = desks.answer(node, f"{self.command} {self.path}", body)
                if status == NO_HTTP:
                    for part in [document] if isinstance(document, bytes) else document:
                        self.wfile.write(part)
                    self.close_connection = True
                    return
                data = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if status == 302:
                    self.send_header("Location", self.headers["Host"])
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the names of http.server

            def log_message(self, *_: object) -> None:
                pass

        port = int(self.urls[node].rpartition(":")[2]) if node in self.urls else 0
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"node-{node}.pem", self.folder / f"node-{node}.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        self._servers[node] = server
        self.urls[node] = f"https://127.0.0.1:{server.server_port}"

    def stop(self, node: int) -> None:
        server = self._servers.pop(node)
        server.shutdown()
        server.server_close()

    def close(self) -> None:
        for node in list(self._servers):
            self.stop(node)

    def answer(self, node: int, call: str, body: bytes) -> tuple[int, Any]:
        self.calls.append((node, call, body))
        told = self.answers[node].get(call.partition("?")[0])
        if callable(told):
            return told(call, body)
        if told is not None:
            return told
        if call == "GET /v1/status":
            return 200, msgspec.json.encode(self.reports[node])
        return problem(404, "not-found", "the calls are others")

    def set(self, call: str, answer: tuple[int, Any] | Callable[..., Any], *nodes: int) -> None:
        for node in nodes or self.answers:
            self.answers[node][call] = answer

    def connection_file(self, **changes: Any) -> Path:
        told: dict[str, Any] = {
            "cluster_id": str(CLUSTER),
            "name": "test",
            "endpoints": [
                {"node": n, "seat": n, "dc": dc, "url": "https://127.0.0.1:1", "ops_url": None}
                for n, dc in five_reports.DCS.items()
            ],
            "ca_file": "ca.pem",
            "tenant": None,
            "nodes": [],
            "admin": {
                "urls": list(self.urls.values()),
                "cert_file": "operator.pem",
                "key_file": "operator.key",
            },
        } | changes
        path = self.folder / "connection.json"
        path.write_text(json.dumps(told))
        return path
