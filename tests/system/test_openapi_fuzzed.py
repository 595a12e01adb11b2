"""Every call of /openapi.json, well-formed and not, at real nodes: nothing but what it promises.

No 5xx but the 503s that are described, every answer with a described status and of its schema, and
every refusal a problem document. Beside schemathesis' own requests, true ones are sent through the
same checks, so that also the successes are compared with the document.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
import schemathesis
import schemathesis.specs.openapi.checks
from accounts import Account
from fuzz_kit import fuzz
from hypothesis import given
from hypothesis import strategies as st
from plain_client import Answer, PlainClient
from schemathesis import GenerationMode
from schemathesis.core.transport import Response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Vault5
    from schemathesis.schemas import APIOperation

pytestmark = pytest.mark.system

CALLS = {
    "getVault": ("/v1/vault", "GET"),
    "startRegistration": ("/v1/registrations", "POST"),
    "putRegistration": ("/v1/registrations/{registration_id}", "PUT"),
    "activateRegistration": ("/v1/registrations/{registration_id}/activation", "POST"),
    "attempt": ("/v1/attempts", "POST"),
    "prove": ("/v1/attempts/{attempt_id}/proof", "POST"),
    "getRecord": ("/v1/record", "GET"),
    "deleteRecord": ("/v1/record", "DELETE"),
}
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def session(shared_vault: Vault5) -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.verify = shared_vault.ca_file
        made.trust_env = False
        yield made


@pytest.fixture(scope="module")
def document(shared_vault: Vault5, session: requests.Session) -> dict[str, Any]:
    answer = session.get(f"{shared_vault.url(1)}/openapi.json", timeout=10)
    assert answer.status_code == 200
    return answer.json()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, APIOperation]:
    schema = schemathesis.openapi.from_dict(document)
    return {name: schema[path][method] for name, (path, method) in CALLS.items()}


def test_every_call_of_the_document_is_fuzzed_here(document: dict[str, Any]) -> None:
    said = {
        call["operationId"]: (path, method.upper())
        for path, calls in document["paths"].items()
        for method, call in calls.items()
    }
    assert said == CALLS


CHECKS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]


def conforms(case: Any, answer: Any) -> None:
    """Status, media type, headers and body are described; whatever is no success is a problem."""
    case.validate_response(answer, checks=CHECKS)
    if answer.status_code == 200:
        return
    problem = json.loads(answer.content)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert PROBLEM in str(headers["content-type"])
    described = case.operation.definition.raw["responses"][str(answer.status_code)]["description"]
    assert problem["code"] in described.split(", ")
    assert problem["status"] == answer.status_code
    if answer.status_code >= 500:
        assert answer.status_code == 503
        assert "retry-after" in headers


TOKENS = st.sampled_from(["full", "full", "full", "full", "restore", "companion", "none", "noise"])


@pytest.mark.parametrize("name", CALLS)
def test_a_fuzzed_call_gets_a_described_answer(
    shared_vault: Vault5, session: requests.Session, operations: dict[str, Any], name: str
) -> None:
    vault, operation = shared_vault, operations[name]
    tokens = {
        "full": vault.token(f"fuzzed-{name}"),
        "restore": vault.token(f"fuzzed-{name}", scope="vault:restore"),
        "companion": vault.token(f"fuzzed-{name}", device="companion"),
        "noise": "e30.e30.e30",
    }
    statuses: set[int] = set()
    modes = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    cases = modes.flatmap(lambda mode: operation.as_strategy(generation_mode=mode))

    @fuzz(25)
    @given(cases, TOKENS, st.sampled_from(vault.ids))
    def each(case: Any, token: str, node: int) -> None:
        if token == "none":
            case.headers = {}
        else:
            case.headers = {"Authorization": f"Bearer {tokens[token]}"}
        answer = case.call(
            base_url=vault.url(node), session=session, verify=vault.ca_file, timeout=15
        )
        statuses.add(answer.status_code)
        conforms(case, answer)

    each()
    assert statuses - {401, 403}


class Watched(PlainClient):
    """Checks every answer of a true client against the document."""

    def __init__(self, ca_file: str, token: str, operations: dict[str, Any]) -> None:
        super().__init__(ca_file, token)
        self.operations = operations
        self.seen: dict[str, set[int]] = {name: set() for name in operations}

    def ask(self, url: str, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        answer = super().ask(url, method, path, body)
        name = next(
            name
            for name, (shape, verb) in CALLS.items()
            if verb == method and _matches(shape, path.partition("?")[0])
        )
        names = [part[1:-1] for part in CALLS[name][0].split("/") if part.startswith("{")]
        case = self.operations[name].Case(path_parameters=dict.fromkeys(names, "A" * 43))
        conforms(
            case,
            Response(
                status_code=answer.status,
                headers={name: [value] for name, value in answer.headers.items()},
                content=json.dumps(answer.body).encode(),
                request=requests.Request(method, url + path).prepare(),
                elapsed=0.1,
                verify=True,
            ),
        )
        self.seen[name].add(answer.status)
        return answer


def _matches(shape: str, path: str) -> bool:
    parts = zip(shape.split("/"), path.split("/"), strict=False)
    return shape.count("/") == path.count("/") and all(
        a == b or a.startswith("{") for a, b in parts
    )


def test_true_calls_of_a_whole_life_get_described_answers(
    shared_vault: Vault5, operations: dict[str, Any]
) -> None:
    account = Account(shared_vault, "described")
    account.client.close()
    client = Watched(shared_vault.ca_file, account.client.token, operations)
    account.client = client
    assert account.look(1).state == "none"
    account.register(1, b"right", b"the key")
    wrong = account.guess(2, b"wrong")
    right = account.guess(3, b"right")
    assert account.prove(4, right).status == 200
    assert account.attempt(5, right).code == "superseded"
    assert account.look(5).state == "active"
    era = account.look(1).era
    assert client.ask(account.url(2), "DELETE", f"/v1/record?era={era - 1}").code == "stale"
    client.must(account.url(2), "DELETE", f"/v1/record?era={era}")
    assert account.attempt(3, wrong).code == "not-registered"
    account.close()
    assert {name for name, statuses in client.seen.items() if 200 in statuses} == set(CALLS)


def test_a_body_beyond_the_limit_is_a_problem_before_it_is_read(
    shared_vault: Vault5, operations: dict[str, Any]
) -> None:
    with Watched(shared_vault.ca_file, shared_vault.token("large"), operations) as client:
        answer = client.ask(shared_vault.url(1), "POST", "/v1/attempts", {"ke1": "A" * 20_000})
        assert (answer.status, answer.code) == (413, "too-large")
