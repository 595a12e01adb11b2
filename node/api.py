"""The client listener: HTTP in, problems and answers out (design section 7; keeps I11, I12).

A thin shell over aiohttp's low-level server with a router of its own: the raw path decides, so an
id is what the client wrote, byte for byte. Every request goes one way: body size, draining, a slot,
the body, the token, the account's rate, the fields, the call; whatever ends it becomes one problem
and one log line. Nothing that a client sent is ever logged but its request id, once validated.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cluster.api import HostStopped
from cluster.types import InvariantError
from node import proofs, records, registrations
from node.answers import AnswerBody, NodePlace, VaultAnswer, encode_answer
from node.attempts import Attempt
from node.fields import (
    ActivationBody,
    AttemptBody,
    ProofBody,
    RegistrationBody,
    RegistrationStartBody,
    decode_body,
    decode_id,
    decode_query,
)
from node.openapi import document
from node.problems import PROBLEM_CONTENT_TYPE, Charged, Code, Problem, malformed
from node.tokens import Scope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cluster.cluster_file import ClusterFile
    from node.admission import AccountRate, Slots
    from node.config import Limits, Tenant
    from node.gate import Gate
    from node.parts import Parts
    from node.tokens import Tokens

BODY_S: Final = 10.0
"""How long a body of a few kilobytes may take to arrive."""
SUITE: Final = "OPAQUE-3DH-ristretto255-SHA512"
KSF: Final = "argon2id-v19-t3-m65536-p4"
JSON: Final = "application/json"
UNKNOWN_ROUTE: Final = "(unknown)"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RESTORE: Final = frozenset({Scope.RESTORE})
_MANAGE: Final = frozenset({Scope.MANAGE})
_EITHER: Final = frozenset({Scope.RESTORE, Scope.MANAGE})


@dataclass(frozen=True, slots=True)
class Call:
    """One request past token and limits."""

    record_id: bytes
    segment: str
    """The variable part of the path, raw."""
    query: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the API."""

    method: str
    template: str
    scopes: frozenset[Scope]
    handle: Callable[[Call], Awaitable[AnswerBody]]
    has_body: bool
    has_query: bool = False

    @property
    def name(self) -> str:
        """For logs and metrics."""
        return f"{self.method} {self.template}"


class Api:
    """Serves the client API. `serve` is the handler for aiohttp's low-level server."""

    def __init__(
        self,
        parts: Parts,
        tokens: Tokens,
        slots: Slots,
        rate: AccountRate,
        gate: Gate,
        *,
        max_body: int,
        fatal: Callable[[str], None],
    ) -> None:
        self._parts = parts
        self._tokens = tokens
        self._slots = slots
        self._rate = rate
        self._gate = gate
        self._max_body = max_body
        self._fatal = fatal
        self._node = str(parts.node_id)
        self._open: dict[str, bytes] = {
            "/v1/vault": encode_answer(self._vault(parts.cluster)),
            "/openapi.json": document(),
        }
        self._routes = {(each.method, each.template): each for each in self._all()}
        self._methods: dict[str, list[str]] = {path: ["GET"] for path in self._open}
        for method, template in self._routes:
            self._methods.setdefault(template, []).append(method)

    def adopt(self, cluster: ClusterFile) -> None:
        """Name the members of a newer cluster file to clients."""
        self._open["/v1/vault"] = encode_answer(self._vault(cluster))

    def retune(self, limits: Limits, tenants: Sequence[Tenant]) -> None:
        """Go on with other limits and other tenants' keys; requests under way finish."""
        self._slots.resize(limits.concurrent_requests)
        self._rate.retune(limits.account_per_minute)
        self._max_body = limits.body_bytes
        self._tokens.adopt(tenants)

    def _all(self) -> list[Route]:
        registration = "/v1/registrations/{registration_id}"
        return [
            Route("POST", "/v1/registrations", _MANAGE, self._start, has_body=True),
            Route("PUT", registration, _MANAGE, self._put, has_body=True),
            Route("POST", f"{registration}/activation", _MANAGE, self._activate, has_body=True),
            Route("POST", "/v1/attempts", _RESTORE, self._attempt, has_body=True),
            Route("POST", "/v1/attempts/{attempt_id}/proof", _RESTORE, self._prove, has_body=True),
            Route("GET", "/v1/record", _EITHER, self._look, has_body=False),
            Route("DELETE", "/v1/record", _MANAGE, self._delete, has_body=False, has_query=True),
        ]

    # ---------------------------------------------------------------- the calls

    def _vault(self, cluster: ClusterFile) -> VaultAnswer:
        return VaultAnswer(
            cluster_id=str(cluster.cluster_id),
            name=cluster.name,
            opaque_public_key=cluster.opaque_public_key,
            suite=SUITE,
            ksf=KSF,
            limit=cluster.limit,
            node=self._parts.node_id,
            nodes=[NodePlace(each.id, each.seat, each.dc) for each in cluster.nodes],
        )

    async def _start(self, call: Call) -> AnswerBody:
        body = decode_body(RegistrationStartBody, call.body)
        return await registrations.start(self._parts, call.record_id, body)

    async def _put(self, call: Call) -> AnswerBody:
        registration_id = decode_id("registration_id", call.segment)
        body = decode_body(RegistrationBody, call.body)
        return await registrations.put(self._parts, call.record_id, registration_id, body)

    async def _activate(self, call: Call) -> AnswerBody:
        registration_id = decode_id("registration_id", call.segment)
        body = decode_body(ActivationBody, call.body)
        return await registrations.activate(self._parts, call.record_id, registration_id, body)

    async def _attempt(self, call: Call) -> AnswerBody:
        body = decode_body(AttemptBody, call.body)
        return await Attempt(self._parts, call.record_id, body).answer()

    async def _prove(self, call: Call) -> AnswerBody:
        attempt_id = decode_id("attempt_id", call.segment)
        body = decode_body(ProofBody, call.body)
        return await proofs.prove(self._parts, call.record_id, attempt_id, body)

    async def _look(self, call: Call) -> AnswerBody:
        return await records.look(self._parts, call.record_id)

    async def _delete(self, call: Call) -> AnswerBody:
        era = decode_query(call.query, ["era"])["era"]
        return await records.delete(self._parts, call.record_id, era)

    # ---------------------------------------------------------------- one request

    async def serve(self, request: web.BaseRequest) -> web.Response:
        """Answer one request, whatever it is."""
        began = time.perf_counter()
        path, _, query = request.raw_path.partition("?")
        template, segment = route_of(path)
        route = self._routes.get((request.method, template))
        known = template in self._methods
        name = route.name if route else f"{_method(request)} {template if known else UNKNOWN_ROUTE}"
        problem: Problem | None = None
        body = b""
        try:
            if route is not None:
                body = await self._answer(request, route, segment, query)
            else:
                body = self._without_token(request, template, query)
        except Problem as raised:
            problem = raised
        except (InvariantError, HostStopped) as error:
            self._fatal(str(error))
            problem = _internal(route)
        except Exception:  # the outermost loop of a request; it ends the request
            self._parts.log.exception("request failed", route=name)
            problem = _internal(route)
        return self._respond(request, name, problem, body, began)

    def _without_token(self, request: web.BaseRequest, template: str, query: str) -> bytes:
        """The two open documents, or 404 and 405."""
        _check_size(request, self._max_body)
        found = self._open.get(template)
        if found is not None and request.method == "GET":
            decode_query(query, [])
            return found
        methods = self._methods.get(template)
        if methods is None:
            raise Problem(Code.NOT_FOUND, "no such path; the calls are listed in /openapi.json")
        raise Problem(
            Code.METHOD_NOT_ALLOWED,
            f"use {' or '.join(sorted(methods))} on this path",
            allow=", ".join(sorted(methods)),
        )

    async def _answer(
        self, request: web.BaseRequest, route: Route, segment: str, query: str
    ) -> bytes:
        # A slow body holds no slot, nor does who has no token: slots are for work.
        _check_size(request, self._max_body)
        self._gate.check()
        body = await self._body(request)
        caller = self._tokens.caller(request.headers.get("Authorization"), route.scopes)
        self._rate.admit(caller.record_id)
        with self._slots:
            if not route.has_query:
                decode_query(query, [])
            if body and not route.has_body:
                raise malformed("body", "this call has none; leave it out")
            answer = await route.handle(Call(caller.record_id, segment, query, body))
            return encode_answer(answer)

    async def _body(self, request: web.BaseRequest) -> bytes:
        """The whole body; never more than the limit in memory."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise malformed("Content-Encoding", "send the body as it is")
        if not request.can_read_body:
            return b""
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        try:
            if request.content.is_eof():  # came with the head, as nearly always: no timer
                body = request.content.read_nowait()
                if len(body) > self._max_body:
                    raise _too_large(self._max_body)
                return body
            return await self._arriving(request)
        except TimeoutError:
            raise malformed("body", f"did not arrive within {BODY_S:.0f} s") from None
        except web.PayloadAccessError:
            raise malformed("body", "is not readable") from None

    async def _arriving(self, request: web.BaseRequest) -> bytes:
        """A body that comes in pieces.

        Raises:
            TimeoutError: after BODY_S.

        """
        read = bytearray()
        async with asyncio.timeout(BODY_S):
            while chunk := await request.content.readany():
                read += chunk
                if len(read) > self._max_body:
                    raise _too_large(self._max_body)
        return bytes(read)

    def _respond(
        self,
        request: web.BaseRequest,
        route: str,
        problem: Problem | None,
        body: bytes,
        began: float,
    ) -> web.Response:
        request_id = _request_id(request)
        headers = {
            "X-Vault-Node": self._node,
            "X-Request-Id": request_id,
            "Cache-Control": "no-store",
            "Content-Type": JSON,
        }
        status, code = 200, "ok"
        if problem is not None:
            status, code = problem.status, str(problem.code)
            body = problem.body()
            headers |= problem.headers()
            headers["Content-Type"] = PROBLEM_CONTENT_TYPE
        response = web.Response(status=status, body=body, headers=headers)
        if self._gate.drained or self._gate.draining:
            response.force_close()
        seconds = time.perf_counter() - began
        self._parts.metrics.request(route, code, seconds)
        self._parts.log.info(
            "request",
            id=request_id,
            route=route,
            status=status,
            code=code,
            charged=None if problem is None else str(problem.charged),
            ms=round(seconds * 1000, 2),
        )
        return response


def route_of(path: str) -> tuple[str, str]:
    """The template of a raw path and its variable segment (empty when it has none).

    A template that no call has comes back as it would be, and is found nowhere.
    """
    parts = path.split("/")
    if len(parts) >= 4 and parts[:2] == ["", "v1"] and parts[2] in _VARIABLE:
        rest = "".join(f"/{each}" for each in parts[4:])
        return f"/v1/{parts[2]}/{{{_VARIABLE[parts[2]]}}}{rest}", parts[3]
    return path, ""


_VARIABLE: Final = {"registrations": "registration_id", "attempts": "attempt_id"}
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _method(request: web.BaseRequest) -> str:
    return request.method if request.method in _METHODS else "(other)"


def _check_size(request: web.BaseRequest, limit: int) -> None:
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> Problem:
    return Problem(Code.TOO_LARGE, f"body: at most {limit} bytes; send only the call's fields")


def _internal(route: Route | None) -> Problem:
    """Something that must not happen; an attempt may have been charged by then."""
    charges = route is not None and route.template == "/v1/attempts"
    return Problem(
        Code.INTERNAL,
        "the node failed on this request; ask again, or ask another node",
        charged=Charged.UNKNOWN if charges else Charged.NO,
    )


def _request_id(request: web.BaseRequest) -> str:
    """The client's own, if it is a decent one, else a fresh one."""
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(8).hex()
