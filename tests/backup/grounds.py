"""Real storages for the tests, on loopback, and a proxy that spoils what passes through it.

`served_webdav` and `served_s3` run a server each (wsgidav, moto). `Between` stands between a client
and one of them and speaks real HTTP to both; a rule makes it answer itself, cut a connection,
never answer, or repeat an old answer, as a provider or a network might.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import logging
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import fsspec
from aiobotocore.session import AioSession
from cheroot import wsgi
from moto.server import ThreadedMotoServer
from wsgidav.wsgidav_app import WsgiDAVApp

from quorumvault.backup.storage import Patience, Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

USER, PASSWORD = "anna", "her-webdav-password"
S3_KEY, S3_SECRET = "AKIAHERACCESSKEY", "her-s3-secret-key"
QUICK = Patience(call_s=20, tries=3, pause_s=0.01)
"""For tests: errors that may pass are tried again at once."""


@contextlib.contextmanager
def served_webdav(folder: Path) -> Iterator[str]:
    """A WebDAV server of one folder; its http:// address."""
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": str(folder)},
            "simple_dc": {"user_mapping": {"*": {USER: {"password": PASSWORD}}}},
            "http_authenticator": {
                "accept_basic": True,
                "accept_digest": False,
                "default_to_digest": False,
            },
            "verbose": 0,
            "logging": {"enable": False},
        }
    )
    server = wsgi.Server(("127.0.0.1", 0), app, numthreads=8)
    server.shutdown_timeout = 1
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.bind_addr[1]}"
    server.stop()
    thread.join(10)


@contextlib.contextmanager
def served_s3() -> Iterator[str]:
    """An S3 server without a bucket; its http:// address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@functools.cache
def _session() -> AioSession:
    """One for all: each would read botocore's tables anew, half a second long."""
    return AioSession()


def s3_options(address: str) -> dict[str, object]:
    return {
        "endpoint_url": address,
        "key": S3_KEY,
        "secret": S3_SECRET,
        "client_kwargs": {"region_name": "us-east-1"},
        "session": _session(),
    }


def make_bucket(address: str, bucket: str) -> None:
    files = fsspec.filesystem("s3", skip_instance_cache=True, **s3_options(address))
    files.call_s3("create_bucket", Bucket=bucket)


def s3_storage_at(address: str, path: str, patience: Patience = QUICK) -> Storage:
    return Storage(f"s3://{path}", s3_options(address), patience=patience)


def webdav_storage_at(address: str, path: str, patience: Patience = QUICK) -> Storage:
    host = urlsplit(address).netloc
    return Storage(f"webdav://{USER}:{PASSWORD}@{host}/{path}", patience=patience)


# ---------------------------------------------------------------- the proxy


@dataclass
class Rule:
    """What happens to the requests of a method whose path holds and ends with a text."""

    method: str
    act: Callable[[Exchange], None]
    within: str
    ends: str
    times: int | None
    hits: int = 0

    def takes(self, method: str, path: str) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        return method == self.method and self.within in path and path.endswith(self.ends)


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Exchange:
    """One request that a rule has taken, not read further than its headers."""

    handler: BaseHTTPRequestHandler
    between: Between

    def body(self) -> bytes:
        length = int(self.handler.headers.get("Content-Length", "0"))
        return self.handler.rfile.read(length)

    def forward(self) -> Answer:
        return self.between.ask(self.handler, self.body())

    def send(self, answer: Answer, *, only: int | None = None) -> None:
        """Send an answer; with `only`, announce all of its body but cut it off there."""
        handler = self.handler
        handler.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                handler.send_header(name, value)
        length = len(answer.body)
        if handler.command == "HEAD":
            length = next((int(v) for n, v in answer.headers if n.lower() == "content-length"), 0)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(answer.body[:only])
        if only is not None:
            self.hang_up()

    def hang_up(self) -> None:
        self.handler.wfile.flush()
        self.handler.close_connection = True
        with contextlib.suppress(OSError):
            self.handler.connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Between:
    """The proxy; `address` is where clients go."""

    upstream: str
    address: str = ""
    rules: list[Rule] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    remembered: dict[tuple[str, str], Answer] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Condition = field(default_factory=threading.Condition)

    def on(
        self,
        method: str,
        act: Callable[[Exchange], None],
        *,
        within: str = "",
        ends: str = "",
        times: int | None = None,
    ) -> Rule:
        """Spoil such requests, the first `times` of them or all."""
        rule = Rule(method, act, within, ends, times)
        self.rules.append(rule)
        return rule

    def asked(self, method: str, within: str = "") -> int:
        """How many requests came."""
        with self.lock:
            return sum(1 for verb, path in self.seen if verb == method and within in path)

    def wait_for(self, rule: Rule, hits: int) -> None:
        """Wait until a rule has taken so many; one that was given up may still be on its way."""
        with self.lock:
            assert self.lock.wait_for(lambda: rule.hits >= hits, 20)

    def ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        """Pass a request on to the server, and remember what it said."""
        connection = http.client.HTTPConnection(urlsplit(self.upstream).netloc, timeout=30)
        try:
            connection.putrequest(
                handler.command, handler.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in handler.headers.items():
                if name.lower() not in {"expect", "connection"}:
                    connection.putheader(name, value)
            connection.putheader("Connection", "close")
            connection.endheaders(body or None)
            response = connection.getresponse()
            answer = Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()
        with self.lock:
            self.remembered[handler.command, handler.path] = answer
        return answer

    def as_it_was(self) -> Callable[[Exchange], None]:
        """From now on the last answers so far, again and again: a listing that lags behind."""
        with self.lock:
            answers = dict(self.remembered)

        def act(exchange: Exchange) -> None:
            answer = answers.get((exchange.handler.command, exchange.handler.path))
            if answer is None:
                answer = exchange.forward()
            else:
                exchange.body()
            exchange.send(answer)

        return act

    def half_to_server(self, handler: BaseHTTPRequestHandler, length: int) -> None:
        """Pass on the headers and only the first half of the body, then cut both connections."""
        address = urlsplit(self.upstream)
        head = [f"{handler.command} {handler.path} HTTP/1.1"]
        head += [f"{n}: {v}" for n, v in handler.headers.items() if n.lower() != "expect"]
        with socket.create_connection((address.hostname, address.port), timeout=30) as server:
            server.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
            server.sendall(handler.rfile.read(length // 2))

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        with self.lock:
            self.seen.append((handler.command, handler.path))
            rule = next((r for r in self.rules if r.takes(handler.command, handler.path)), None)
            if rule is not None:
                rule.hits += 1
                self.lock.notify_all()
        exchange = Exchange(handler, self)
        if rule is not None:
            rule.act(exchange)
        else:
            exchange.send(exchange.forward())


def answers(status: int, body: bytes = b"") -> Callable[[Exchange], None]:
    """The proxy answers itself; the server never sees the request."""

    def act(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(Answer(status, [("Content-Type", "application/xml")], body))

    return act


def cuts_upload(exchange: Exchange) -> None:
    """The connection breaks in the middle of the request's body, on both sides."""
    length = int(exchange.handler.headers["Content-Length"])
    exchange.between.half_to_server(exchange.handler, length)
    exchange.hang_up()


def cuts_answer(exchange: Exchange) -> None:
    """The connection breaks in the middle of the answer's body."""
    answer = exchange.forward()
    exchange.send(answer, only=len(answer.body) // 2)


def loses_answer(exchange: Exchange) -> None:
    """The server does what was asked, but its answer gets lost."""
    exchange.forward()
    exchange.hang_up()


def never_answers(exchange: Exchange) -> None:
    exchange.body()
    exchange.between.closing.wait(60)
    exchange.hang_up()


@contextlib.contextmanager
def between(upstream: str) -> Iterator[Between]:
    """A proxy in front of a server."""
    proxy = Between(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60
        disable_nagle_algorithm = True  # or each answer waits 40 ms for the client's ACK

        def log_message(self, *_: object) -> None:
            pass

        def serve(self) -> None:
            proxy.take(self)

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

    for verb in ("GET", "HEAD", "PUT", "POST", "DELETE", "PROPFIND", "MKCOL", "OPTIONS"):
        setattr(Handler, f"do_{verb}", Handler.serve)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
