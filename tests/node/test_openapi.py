"""The published document says what the code does."""

from __future__ import annotations

import json

import pytest

from node import fields, openapi
from node.problems import KINDS, Code

DOCUMENT = json.loads(openapi.document())


async def test_every_route_is_in_the_document_and_no_other(world):
    api = world.nodes[1].api
    written = {
        (method.upper(), path) for path, calls in DOCUMENT["paths"].items() for method in calls
    }
    served = set(api._routes) | {("GET", "/v1/vault")}
    assert written == served


@pytest.mark.parametrize("shape", fields.KINDS, ids=lambda s: s.__name__)
def test_every_field_is_described_with_its_exact_length(shape):
    schema = DOCUMENT["components"]["schemas"][shape.__name__]
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == list(fields.KINDS[shape])
    for name, kind in fields.KINDS[shape].items():
        if isinstance(kind, fields.Binary):
            assert schema["properties"][name]["maxLength"] == -(-kind.high * 8 // 6)


def test_every_reference_points_somewhere():
    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    schemas = DOCUMENT["components"]["schemas"]
    for reference in references(DOCUMENT):
        assert reference.rpartition("/")[2] in schemas


def test_every_problem_is_reachable_or_outside_the_calls():
    described = {
        code
        for calls in DOCUMENT["paths"].values()
        for call in calls.values()
        for response in call["responses"].values()
        for code in response["description"].split(", ")
    }
    assert set(Code) - described == {Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED}
    assert all(KINDS[Code(code)].status for code in described - {"Done."})
