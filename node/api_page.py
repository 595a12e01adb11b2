"""`python -m node.api_page > docs/api.md`: the client API as a page, made from its own document.

node.openapi makes the document from the definitions that decode and encode; this makes prose of
it, so that the page cannot promise what the code does not do. `make docs` writes it.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from node import openapi
from node.problems import KINDS

Json = dict[str, Any]
"""The document is JSON, and so are its parts."""

_HEAD: Final = """# Client API

<!-- Made by `make docs` from node/openapi.py; change that instead. -->

HTTPS and JSON, on every node alike; any node answers for every account. The same as OpenAPI 3.1
is at `GET /openapi.json` of a running node. Applications use the SDK (`from quorumvault import
Vault`), which does the cryptography, the retries and the checks; this page is for whoever
writes another one, and for whoever reads a trace.

- Bytes are base64url without padding, in their one canonical form. Integers are JSON numbers.
  Unknown fields are refused.
- `Authorization: Bearer <JWT>`, signed by the tenant: `iss` the tenant, `sub` the account (1 to
  255 bytes), `aud` the cluster's name, `iat`, `exp` at most 24 h later, `device` = `primary`,
  `scope` with `vault:restore` (attempts, proof), `vault:manage` (registrations, delete), either
  for reading the record.
- `X-Request-Id` is taken over when sent, answered, and logged; `X-Vault-Node` names the node
  that answered.
- A lost answer: send the very same bytes again, to any node. An attempt is known by its `ke1`:
  the same is counted once, however often it is sent.
- `charged` in a problem tells whether *this request* counted the attempt: `no` (surely not),
  `yes` (surely), `unknown` (it may have been). Of all requests of one attempt, `yes` outweighs
  `unknown`, and `unknown` outweighs `no`.
"""
_ORDER: Final = """
## In which order

| to do | how |
|---|---|
| keep a key | start a registration at three data centers, compare; put it; activate it |
| get it back | one attempt; open its answer with the password; its proof |
| look | get the record; costs nothing |
| erase | get the record, then delete it with its era |
"""
_PROBLEMS: Final = """Every failure is `application/problem+json` (RFC 9457): `type` is
`urn:quorumvault:problem:<code>`; `title`, `status`, `code`; `detail` with the field or the cause
and the next step; `retryable`; `charged`; and `guesses_remaining` where it is known.
`Retry-After` comes with 429 and 503.
"""


def _schema_name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = _schema_name(schema["$ref"])
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    said = str(schema.get("description", schema["type"]))
    if schema.get("type") == "boolean" and "default" in schema:
        return f"{said}, {str(schema['default']).lower()} when absent"
    return said


def _fields(schema: Json) -> str:
    if "enum" in schema:
        return f"One of {_type(schema)}.\n"
    required = schema.get("required", [])
    rows = [
        f"| `{name}` | {_type(field)} | {'always' if name in required else 'not always'} |"
        for name, field in schema["properties"].items()
    ]
    return "\n".join(["| field | what | there |", "|---|---|---|", *rows]) + "\n"


def _call(path: str, method: str, call: Json) -> str:
    answer = call["responses"]["200"]["content"]["application/json"]["schema"]
    lines = [f"### {method.upper()} {path}", "", call["summary"]]
    if not call["security"]:
        lines[-1] += " No token."
    lines.append("")
    queries = [each["name"] for each in call["parameters"] if each["in"] == "query"]
    lines += [f"- query: `{name}`, required" for name in queries]
    if "requestBody" in call:
        body = call["requestBody"]["content"]["application/json"]["schema"]
        lines.append(f"- body: {_type(body)}")
    lines.append(f"- 200: {_type(answer)}")
    lines += [
        f"- {status}: {response['description']}"
        for status, response in call["responses"].items()
        if status != "200"
    ]
    return "\n".join(lines) + "\n"


def _problems() -> str:
    rows = [
        f"| {kind.status} | `{code}` | {kind.title} | {'yes' if kind.retryable else 'no'} |"
        for code, kind in KINDS.items()
    ]
    return "\n".join(["| status | code | meaning | same again later |", "|---|---|---|---|", *rows])


def page() -> str:
    """The page, Markdown."""
    document: Json = json.loads(openapi.document())
    schemas: Json = document["components"]["schemas"]
    calls = [
        _call(path, method, call)
        for path, methods in document["paths"].items()
        for method, call in methods.items()
    ]
    shapes = [
        f"### {name}\n\n{_fields(schema)}" for name, schema in schemas.items() if name != "Problem"
    ]
    return "\n".join(
        [
            _HEAD + _ORDER,
            "## Calls\n",
            *calls,
            "## Problems\n",
            _PROBLEMS,
            _problems() + "\n",
            "## Bodies and answers\n",
            *shapes,
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(page())
