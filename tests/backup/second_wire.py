"""How the second client reaches the vault: TLS, nodes, refusals, retries.

Written from docs/mobile.md alone, on http.client.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import secrets
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONNECT_S, VAULT_S, ANSWER_S, WHOLE_S = 4.0, 5.0, 12.0, 30.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 3.0
LARGEST_ANSWER = 65_536
SUITE = ("OPAQUE-3DH-ristretto255-SHA512", "argon2id-v19-t3-m65536-p4")
NODE_URI = re.compile(r"quorumvault://([0-9a-f-]{36})/node/([1-9][0-9]*)")

# From mild to grave: what one node alone may not make us believe.
ABOUT_THE_RECORD = ("stale", "conflict", "superseded", "exhausted", "not-registered", "locked")
BELIEVED_FROM_ONE = ("token", "forbidden", "malformed", "too-large")


class Failed(Exception):  # noqa: N818  (the root of what the app shows)
    """An operation that did not do what it was asked for."""


class Tampered(Failed):
    """An answer contradicts what we computed, pinned, or saw elsewhere. Stop."""


class Unavailable(Failed):
    """No answer in time; the state is kept, and the next try repeats the same bytes."""


class Superseded(Failed):
    """Another device was faster, or the record is not what it was."""


class Refused(Failed):
    """A final refusal; `code` says which, `seats` how many data centers said so."""

    def __init__(self, code: str, problem: dict[str, Any]) -> None:
        super().__init__(code)
        self.code = code
        self.problem = problem


class NoAnswer(Exception):  # noqa: N818
    """One node did not answer, or asked to come later; `sent` whether it may have acted."""

    def __init__(self, why: str, *, sent: bool, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.sent = sent
        self.wait_s = wait_s


class NotThisNode(Exception):  # noqa: N818
    """The node is not who it should be: no token, no request."""


@dataclass(frozen=True)
class Node:
    """One node that has shown who it is."""

    url: str
    id: int
    seat: int
    cluster_id: str
    vault: dict[str, Any]
    places: dict[int, int]


@dataclass
class Charges:
    """Whether the sends of one KE1 counted a guess: yes outweighs unknown, unknown outweighs no."""

    worst: str = "no"

    def add(self, charged: object) -> None:
        order = ("no", "unknown", "yes")
        told = charged if charged in order else "unknown"
        self.worst = max(self.worst, str(told), key=order.index)


@dataclass
class Wire:
    """All nodes of a vault.

    `known` maps each URL to the cluster and node first seen there, `pinned` has what was proven.
    """

    urls: Sequence[str]
    ca_file: str
    token: Callable[[], str]
    pinned: Callable[[str], object] = lambda _: None
    known: dict[str, list[Any]] = field(default_factory=dict)
    met: dict[str, Node] = field(default_factory=dict)
    later: dict[str, float] = field(default_factory=dict)

    def exchange(
        self, url: str, method: str, path: str, body: bytes | None, *, token: bool
    ) -> tuple[int, dict[str, Any], float]:
        """One request to one node: status, JSON, Retry-After. Checks the certificate first."""
        parts = urlsplit(url)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.ca_file)
        connection = http.client.HTTPSConnection(
            str(parts.hostname), parts.port, timeout=CONNECT_S, context=context
        )
        sent = False
        try:
            connection.connect()
            self._certificate(url, connection.sock)
            connection.sock.settimeout(ANSWER_S if token else VAULT_S)
            headers = {"X-Request-Id": secrets.token_hex(8), "Accept": "application/json"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            if token:
                headers["Authorization"] = f"Bearer {self.token()}"
            sent = True
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read(LARGEST_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{url}: {error}", sent=sent) from error
        finally:
            connection.close()
        wait = answer.getheader("Retry-After") or "0"
        try:
            told = json.loads(data) if len(data) <= LARGEST_ANSWER else None
        except ValueError:
            told = None
        if not isinstance(told, dict):
            if answer.status == http.HTTPStatus.OK:
                raise NoAnswer(f"{url}: 200 without JSON", sent=True)
            told = {}
        return answer.status, told, float(wait) if wait.isdecimal() else 0.0

    def _certificate(self, url: str, sock: Any) -> None:
        names = sock.getpeercert().get("subjectAltName", ())
        uris = [value for kind, value in names if kind == "URI"]
        match = NODE_URI.fullmatch(uris[0]) if len(uris) == 1 else None
        if match is None:
            raise NotThisNode(f"{url}: the certificate names no node")
        seen = [match[1], int(match[2])]
        if self.known.setdefault(url, seen) != seen:
            raise NotThisNode(f"{url}: another node than before")

    def meet(self, url: str) -> Node:
        """GET /v1/vault once for each node, before anything else goes there."""
        if url in self.met:
            return self.met[url]
        status, vault, wait = self.exchange(url, "GET", "/v1/vault", None, token=False)
        if status != http.HTTPStatus.OK:
            raise NoAnswer(f"{url}: {status} to /v1/vault", sent=False, wait_s=wait)
        cluster_id, number = self.known[url]
        try:
            places = {int(row["id"]): int(row["seat"]) for row in vault["nodes"]}
            node = Node(url, number, places[number], cluster_id, vault, places)
        except (KeyError, TypeError, ValueError) as error:
            raise NotThisNode(f"{url}: it is not in its own table") from error
        if vault.get("node") != number or vault.get("cluster_id") != cluster_id:
            raise NotThisNode(f"{url}: the table is not that of the certificate")
        if (vault.get("suite"), vault.get("ksf")) != SUITE:
            raise Tampered(f"{url}: another suite")
        vaults = [vault, *(other.vault for other in self.met.values())]
        for name in ("cluster_id", "opaque_public_key"):
            told = {str(one.get(name)) for one in vaults} | {str(self.pinned(name) or vault[name])}
            if len(told) > 1:
                raise Tampered(f"{name} is not that of another node, or not the pinned one")
        self.met[url] = node
        return self.met[url]

    def one(self, url: str, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        """A 200's JSON; Refused when final, NoAnswer when temporary."""
        status, told, wait = self.exchange(url, method, path, body, token=True)
        if status == http.HTTPStatus.UNAUTHORIZED and told.get("code") == "token":
            status, told, wait = self.exchange(url, method, path, body, token=True)
        if status == http.HTTPStatus.OK:
            return told
        code = str(told.get("code", ""))
        if status == http.HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
            sent = told.get("charged") != "no"
            raise NoAnswer(f"{url}: {status} {code}", sent=sent, wait_s=wait)
        raise Refused(code, told)

    def _order(self, first: Sequence[int], without: Sequence[int]) -> list[str]:
        """URLs to ask: those in the seats of `first` before others, none in those of `without`."""
        if first:
            self._meet_all()
        seats = {url: self.met[url].seat if url in self.met else 0 for url in self.urls}
        now = time.monotonic()
        urls = [url for url in self.urls if self.later.get(url, 0.0) <= now]
        urls = [url for url in urls if seats[url] not in without]
        return sorted(urls, key=lambda url: bool(first) and seats[url] not in first)

    def _meet_all(self) -> None:
        for url in self.urls:
            with contextlib.suppress(NoAnswer, NotThisNode):
                self.meet(url)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        first: Sequence[int] = (),
        without: Sequence[int] = (),
        charges: Charges | None = None,
        rounds: int | None = None,
        within_s: float = WHOLE_S,
    ) -> tuple[dict[str, Any], Node]:
        """The same bytes to one node after the other, until one answers or time is over."""
        charges = charges or Charges()
        until, pause = time.monotonic() + within_s, FIRST_WAIT_S
        while True:
            refusals: list[tuple[int, Refused]] = []
            for url in self._order(first, without):
                try:
                    node = self.meet(url)
                    if node.seat not in without:
                        answer = self.one(url, method, path, body)
                        charges.add("yes")
                        return answer, node
                except NotThisNode:
                    continue
                except NoAnswer as silence:
                    charges.add("unknown" if silence.sent else "no")
                    self.later[url] = time.monotonic() + silence.wait_s
                except Refused as refusal:
                    charges.add(refusal.problem.get("charged", "no"))
                    refusals.append((node.seat, refusal))
                    if _believed(refusal.code, path, refusals):
                        raise
            if refusals:  # a whole round contradicted none of them: the mildest
                raise min(
                    (refusal for _, refusal in refusals), key=lambda told: _gravity(told.code)
                )
            rounds = None if rounds is None else rounds - 1
            if rounds == 0 or time.monotonic() + pause > until:
                raise Unavailable(f"no node answers {method} {path.split('/')[2]}")
            time.sleep(pause * (1 + secrets.randbelow(500) / 1000))
            pause = min(2 * pause, LONGEST_WAIT_S)

    def ask_three(
        self, method: str, path: str, body: bytes | None = None, *, rounds: int | None
    ) -> list[tuple[dict[str, Any], Node]]:
        """Answers of three data centers; another replaces who is silent.

        With `rounds` of fewer, when so many rounds brought no more.
        """
        answers: dict[int, tuple[dict[str, Any], Node]] = {}
        until, pause = time.monotonic() + WHOLE_S, FIRST_WAIT_S
        while True:
            for url in self._order((), ()):
                if len(answers) == 3:
                    break
                try:
                    node = self.meet(url)
                    if node.seat not in answers:
                        answers[node.seat] = (self.one(url, method, path, body), node)
                except (NoAnswer, NotThisNode):
                    continue
            rounds = None if rounds is None else rounds - 1
            if len(answers) == 3 or rounds == 0:
                break
            if time.monotonic() + pause > until:
                raise Unavailable(f"{len(answers)} data centers answer, three are needed")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_WAIT_S)
        asked = [node for _, node in answers.values()]
        for table in asked:
            if any(table.places.get(node.id) != node.seat for node in asked):
                raise Tampered("the nodes do not agree on who is in which data center")
        return list(answers.values())


def _believed(code: str, path: str, refusals: list[tuple[int, Refused]]) -> bool:
    """Some words are believed from one node, all others when two data centers say the same."""
    if code in BELIEVED_FROM_ONE or (code == "superseded" and path.startswith("/v1/attempts")):
        return True
    return len({seat for seat, refusal in refusals if refusal.code == code}) > 1


def _gravity(code: str) -> int:
    return ABOUT_THE_RECORD.index(code) if code in ABOUT_THE_RECORD else -1
