"""What the SDK says when a node refuses: the node's words and the next step, once."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from quorumvault._core import Answer, Endpoint, Request, Session
from quorumvault._state import State
from quorumvault._wire import Problem


@pytest.mark.parametrize(
    ("code", "detail", "says"),
    [
        ("not-registered", "this account has none; register first", "has none; register first"),
        ("not-registered", "this account has none", "has none. Next: register first"),
        ("superseded", "type the password again for a new one", "again for a new one"),
        ("locked", "", "HTTP 423. Next: the old key is gone for ever; register a new one"),
    ],
)
def test_the_next_step_is_said_once(code, detail, says):
    session = Session((Endpoint("https://node-1"),), State())
    error = session.refusal(Problem(code=code, detail=detail), 423, 0)
    assert str(error).endswith(says)
    assert str(error).count("register first") <= 1


def test_no_word_of_a_node_moves_the_cursor_of_a_terminal():
    session = Session((Endpoint("https://node-1"),), State())
    nasty = "no\x1b[2J\x07\n" + "x" * 10_000
    body = msgspec.json.encode({"code": nasty, "detail": nasty, "charged": "no"})
    session.hear(Answer(0, 1, UUID(int=7), 503, body, None, 0.0), Request("GET", "/v1/record"))
    refused = session.refusal(Problem(code=nasty, detail=nasty), 423, 0)
    for error in (refused, session.unavailable()):
        assert str(error).isprintable()
        assert len(str(error)) < 2_000
