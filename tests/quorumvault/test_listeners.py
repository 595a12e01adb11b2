"""Whatever a listener answers, or does not, costs its own answer and a bounded time and size."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest

from quorumvault.cli import debug_parts as parts
from quorumvault.cli.listeners import Answer, Member, NoAnswer, ask_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_S = 0.6
MOST_BYTES = 10_000
MEMBER = Member(3, 3, "paris", "https://c", "https://a", "http://o")


class Listener:
    """A real socket whose every connection is handed to `answer`."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self.asked: list[bytes] = []
        self._threads = [threading.Thread(target=self._run)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        host, port = self._socket.getsockname()
        return f"http://{host}:{port}/x"

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                made, _ = self._socket.accept()
                made.settimeout(5)
                thread = threading.Thread(target=self._serve, args=(made,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, made: socket.socket) -> None:
        with made, contextlib.suppress(OSError):
            self.asked.append(made.recv(65536))
            self._answer(made)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[Listener]:
    made = Listener(answer)
    try:
        yield made
    finally:
        made.end()


def says(data: bytes) -> Callable[[socket.socket], None]:
    return lambda made: made.sendall(data)


def ask(url: str) -> Answer | NoAnswer:
    context = ssl.create_default_context()
    begun = time.monotonic()
    (answer,) = ask_all(context, [url], most_bytes=MOST_BYTES, most_s=MOST_S)
    assert time.monotonic() - begun < MOST_S + 5
    return answer


def drip(data: bytes, forever: bytes) -> Callable[[socket.socket], None]:
    """`data` at once, then a byte now and then."""

    def answer(made: socket.socket) -> None:
        made.sendall(data)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            made.sendall(forever)
            threading.Event().wait(0.02)

    return answer


BROKEN = {
    "nothing": (lambda made: made.recv(1), "no answer within"),
    "a slow head": (drip(b"HTTP/1.1 200 OK\r\nX: ", b"x"), "no answer within"),
    "a slow body": (drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"), "no answer within"),
    "garbage": (says(b"\x00\xff garbage\r\n\r\n"), ""),
    "an end": (lambda made: None, ""),
    "half a body": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), ""),
    "an endless head": (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000), ""),
    "many heads": (says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000), ""),
}


@pytest.mark.parametrize(("answer", "why"), BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_is_a_reason_of_one_line(answer, why):
    with listening(answer) as listener:
        found = ask(listener.url)
    assert isinstance(found, NoAnswer)
    assert why in found.reason
    assert 0 < len(found.reason) <= 200
    assert found.reason.isprintable()


def test_where_nobody_listens_there_is_a_reason():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = ask(f"http://127.0.0.1:{port}/")
    assert isinstance(found, NoAnswer)
    assert found.reason == "Connection refused"
    assert isinstance(ask("ftp://127.0.0.1/"), NoAnswer)


def test_too_much_is_cut_and_said_to_be():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n"
    with listening(says(head + b"x" * 5_000_000)) as listener:
        found = ask(listener.url)
    assert isinstance(found, Answer)
    assert (len(found.body), found.is_cut) == (MOST_BYTES, True)
    assert parts.part(MEMBER, "f", "u", found).note == "cut: it was longer"


def test_what_is_packed_is_not_unpacked():
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n"
    with listening(says(head + b"bomb")) as listener:
        found = ask(listener.url)
        assert b"accept-encoding: identity" in listener.asked[0].lower()
    assert isinstance(found, Answer)
    assert found.body == b"bomb"


def test_nobody_is_sent_elsewhere(monkeypatch):
    with listening(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as other:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {other.url}\r\nContent-Length: 0\r\n\r\n"
        monkeypatch.setenv("HTTP_PROXY", other.url)
        monkeypatch.setenv("http_proxy", other.url)
        with listening(says(moved.encode())) as listener:
            found = ask(listener.url)
        assert other.asked == []
    assert isinstance(found, Answer)
    assert found.status == 302
    assert parts.part(MEMBER, "f", "u", found).missing == "it answers with status 302"


@pytest.mark.parametrize("ahead", [-3600, 0, 90])
def test_a_clock_is_told_from_the_date(ahead):
    date = email.utils.formatdate(time.time() + ahead, usegmt=True)
    answer = f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n"
    with listening(says(answer.encode())) as listener:
        found = ask(listener.url)
    assert isinstance(found, Answer)
    assert found.clock_ahead_s == pytest.approx(ahead, abs=1.5)


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 99999 99:99:99 GMT", "1"])
def test_a_date_that_is_none_tells_nothing(date):
    answer = f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n"
    with listening(says(answer.encode())) as listener:
        found = ask(listener.url)
    assert isinstance(found, Answer)
    assert found.clock_ahead_s is None


def answered(body: bytes, status: int = 200) -> Answer:
    return Answer(status, body, is_cut=False, seconds=0.1, clock_ahead_s=0.0, certificate=None)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"x": "-----BEGIN PRIVATE KEY-----\\nMC4C"}', "a private key"),
        (b"-----BEGIN EC PRIVATE KEY-----", "a private key"),
        (b'"eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJkZW1vIn0.c2lnbmF0dXJlLW9m"', "a token"),
    ],
)
def test_what_looks_like_a_secret_is_left_out_whole(body, what):
    part = parts.part(MEMBER, "nodes/3/config.json", "u", answered(body))
    assert part.missing == f"left out: it holds what looks like {what}"
    assert part.bytes == 0


@pytest.mark.parametrize("body", [b"-----BEGIN CERTIFICATE-----", b'{"node":3}', b"eyJ.a.b"])
def test_what_does_not_is_taken(body):
    assert parts.part(MEMBER, "nodes/3/config.json", "u", answered(body)).missing == ""


def test_a_node_that_is_not_ready_still_says_why():
    part = parts.part(MEMBER, "nodes/3/readyz.txt", "u", answered(b"[-] hsm: away\n", 503))
    assert (part.missing, part.status, part.bytes) == ("", 503, 14)


def test_without_an_ops_address_the_rest_is_asked():
    files = [file for file, _ in parts.calls(Member(3, 3, "paris", "https://c", "https://a", None))]
    assert "nodes/3/status.json" in files
    assert "nodes/3/metrics.txt" not in files


def test_an_answer_made_to_be_searched_slowly_is_not():
    body = b"eyJaaaaaaaa-" * (1 << 14)
    began = time.process_time()
    assert parts.suspicion(body) == ""
    assert time.process_time() - began < 1
