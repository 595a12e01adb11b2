"""What the SDK says when a node refuses: the node's words and the next step, once."""

from __future__ import annotations

import pytest

from quorumvault._core import Endpoint, Session
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
