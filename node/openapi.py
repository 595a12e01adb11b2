"""The API's OpenAPI 3.1 document, made from the very definitions that decode and encode.

Fields come from node.fields, answers from node.answers, codes from node.problems: the document
cannot promise what the code does not do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, assert_never

import msgspec

from cluster.types import MAX_COUNTER
from node import answers, fields
from node.problems import KINDS, PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX, Charged, Code

if TYPE_CHECKING:
    from collections.abc import Iterable

Schema = dict[str, Any]
"""A JSON schema is JSON: this module makes it and nobody computes with it."""

API_VERSION: Final = "1"
_ALWAYS: Final = (Code.TOO_LARGE, Code.BUSY, Code.DRAINING, Code.INTERNAL)
_AUTHENTICATED: Final = (*_ALWAYS, Code.MALFORMED, Code.TOKEN, Code.FORBIDDEN, Code.NO_QUORUM)
_ID: Final = {"type": "string", "minLength": 43, "maxLength": 43, "pattern": "^[A-Za-z0-9_-]{43}$"}


def _characters(size: int) -> int:
    return (size * 8 + 5) // 6


def _kind(kind: fields.Kind) -> Schema:
    match kind:
        case fields.Binary(low, high):
            said = f"{low} bytes" if low == high else f"{low} to {high} bytes"
            return {
                "type": "string",
                "minLength": _characters(low),
                "maxLength": _characters(high),
                "pattern": "^[A-Za-z0-9_-]+$",
                "description": f"{said}, base64url without padding",
            }
        case fields.Counter():
            return {"type": "integer", "minimum": 0, "maximum": MAX_COUNTER - 1}
        case fields.Flag():
            return {"type": "boolean", "default": False}
        case _:
            assert_never(kind)


def _body(shape: type[fields.Body]) -> Schema:
    kinds = fields.KINDS[shape]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, kind in kinds.items() if not isinstance(kind, fields.Flag)],
        "properties": {name: _kind(kind) for name, kind in kinds.items()},
    }


def _problem() -> Schema:
    return {
        "type": "object",
        "required": ["type", "title", "status", "code", "detail", "retryable", "charged"],
        "properties": {
            "type": {"type": "string", "enum": [PROBLEM_TYPE_PREFIX + code for code in Code]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string", "enum": [str(code) for code in Code]},
            "detail": {"type": "string"},
            "retryable": {"type": "boolean"},
            "charged": {
                "type": "string",
                "enum": [str(each) for each in Charged],
                "description": "whether this request charged the attempt",
            },
            "guesses_remaining": {"type": "integer", "minimum": 0},
        },
    }


def _responses(answer: type[msgspec.Struct], codes: Iterable[Code]) -> Schema:
    by_status: dict[int, list[Code]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].status, []).append(code)
    responses: Schema = {
        "200": {
            "description": "Done.",
            "content": {
                "application/json": {"schema": {"$ref": f"#/components/schemas/{answer.__name__}"}}
            },
        }
    }
    for status, found in sorted(by_status.items()):
        responses[str(status)] = {
            "description": ", ".join(found),
            "content": {PROBLEM_CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return responses


def _call(
    name: str,
    summary: str,
    answer: type[msgspec.Struct],
    codes: Iterable[Code],
    *,
    body: type[fields.Body] | None = None,
    parameters: Iterable[Schema] = (),
    token: bool = True,
) -> Schema:
    call: Schema = {
        "operationId": name,
        "summary": summary,
        "parameters": list(parameters),
        "responses": _responses(answer, (*codes, *(_AUTHENTICATED if token else _ALWAYS))),
        "security": [{"token": []}] if token else [],
    }
    if body is not None:
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        call["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return call


def _path_id(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": _ID}


def _paths() -> Schema:
    registration = [_path_id("registration_id")]
    era = {
        "name": "era",
        "in": "query",
        "required": True,
        "schema": _kind(fields.Counter()),
    }
    return {
        "/v1/vault": {
            "get": _call(
                "getVault", "Who this vault is.", answers.VaultAnswer, [Code.MALFORMED], token=False
            )
        },
        "/v1/registrations": {
            "post": _call(
                "startRegistration",
                "Evaluate a registration request; stores nothing.",
                answers.RegistrationStartAnswer,
                [Code.HSM_UNAVAILABLE],
                body=fields.RegistrationStartBody,
            )
        },
        "/v1/registrations/{registration_id}": {
            "put": _call(
                "putRegistration",
                "Store a pending registration; safe to repeat.",
                answers.RegistrationAnswer,
                [Code.STALE, Code.CONFLICT, Code.HSM_UNAVAILABLE],
                body=fields.RegistrationBody,
                parameters=registration,
            )
        },
        "/v1/registrations/{registration_id}/activation": {
            "post": _call(
                "activateRegistration",
                "Make the pending registration the active one; the old key is gone.",
                answers.ActivationAnswer,
                [Code.CONFLICT, Code.PROOF_REJECTED],
                body=fields.ActivationBody,
                parameters=registration,
            )
        },
        "/v1/attempts": {
            "post": _call(
                "attempt",
                "Make one guess; the same KE1 is the same guess.",
                answers.AttemptAnswer,
                [
                    Code.NOT_REGISTERED,
                    Code.SUPERSEDED,
                    Code.EXHAUSTED,
                    Code.LOCKED,
                    Code.HSM_UNAVAILABLE,
                    Code.LEDGER_FULL,
                ],
                body=fields.AttemptBody,
            )
        },
        "/v1/attempts/{attempt_id}/proof": {
            "post": _call(
                "prove",
                "Prove that an attempt knew the password; releases the wrapped key.",
                answers.ProofAnswer,
                [Code.SUPERSEDED, Code.PROOF_REJECTED, Code.HSM_UNAVAILABLE],
                body=fields.ProofBody,
                parameters=[_path_id("attempt_id")],
            )
        },
        "/v1/record": {
            "get": _call("getRecord", "Where the account stands.", answers.RecordAnswer, []),
            "delete": _call(
                "deleteRecord",
                "Erase the record; its era stays.",
                answers.DeletionAnswer,
                [Code.STALE],
                parameters=[era],
            ),
        },
    }


def document() -> bytes:
    """The document as JSON."""
    shapes = [
        answers.VaultAnswer,
        answers.RegistrationStartAnswer,
        answers.RegistrationAnswer,
        answers.ActivationAnswer,
        answers.AttemptAnswer,
        answers.ProofAnswer,
        answers.RecordAnswer,
        answers.DeletionAnswer,
    ]
    _, components = msgspec.json.schema_components(
        shapes, ref_template="#/components/schemas/{name}"
    )
    components |= {shape.__name__: _body(shape) for shape in fields.KINDS}
    components["Problem"] = _problem()
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Quorumvault client API",
                "version": API_VERSION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": _paths(),
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
                },
            },
        }
    )
