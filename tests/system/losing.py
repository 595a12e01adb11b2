"""A line on the client's side that carries requests to a node and can lose the answer.

The node has answered when the line breaks: what is lost is lost for the client alone. (A client
that hangs up before the answer is there is `hang_up`.)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from plain_client import PlainClient


class LosingLine:
    """A TCP proxy to one node's client listener; `lose_next` swallows the next answer."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._to = (place.hostname, place.port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._server.getsockname()[1]}"
        self.lost = 0
        self._losing = False
        self._sockets: list[socket.socket] = [self._server]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def lose_next(self) -> None:
        """What the node says from now on is swallowed, then the line breaks."""
        self._losing = True

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(self._to)
                self._sockets += [near, far]
                for source, sink, answers in ((near, far, False), (far, near, True)):
                    thread = threading.Thread(
                        target=self._carry, args=(source, sink), kwargs={"answers": answers}
                    )
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and self._losing:
                    self._losing = False
                    self.lost += 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def swallow(
    client: PlainClient, url: str, method: str, path: str, body: dict[str, Any] | None = None
) -> None:
    """Send a request whose answer the node gives and the client never gets."""
    with LosingLine(url) as line:
        client.must(line.url, "GET", "/v1/vault")  # the TLS session stands before the loss
        line.lose_next()
        with pytest.raises((OSError, http.client.HTTPException)):
            client.ask(line.url, method, path, body)
        assert line.lost == 1


def hang_up(
    client: PlainClient, url: str, method: str, path: str, body: dict[str, Any] | None = None
) -> None:
    """Send a whole request and be gone at once; nobody knows what became of it."""
    place = urlsplit(url)
    context = ssl.create_default_context(cafile=client.ca_file)
    connection = http.client.HTTPSConnection(place.hostname, place.port, context=context)
    data = None if body is None else json.dumps(body)
    headers = {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"}
    connection.request(method, path, data, headers)
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


LOSSES = [pytest.param(swallow, id="swallowed"), pytest.param(hang_up, id="hung-up")]
