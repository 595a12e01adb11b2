"""The checker itself: each broken rule is noticed, and an honest vault is not accused."""

from __future__ import annotations

import hashlib

import pytest

from chaos import witness
from chaos.expectation import Expectation, verdict
from engines.encoding import b64u_decode, b64u_encode

LIMIT = 10


def name(text: str) -> str:
    return b64u_encode(hashlib.sha256(text.encode()).digest())


def hexed(text: str) -> str:
    return b64u_decode(name(text)).hex()


def registered() -> Expectation:
    expect = Expectation("alice", LIMIT)
    expect.activated(name("registration"), 0, b"right", b"key")
    return expect


def shares(*attempts: str, seats: int = 3) -> witness.Testimony:
    made = [witness.Attempt(hexed("registration"), 1, hexed(each)) for each in attempts]
    given = {each: frozenset(range(1, seats + 1)) for each in made}
    return witness.Testimony(given, (), {each: frozenset({"one"}) for each in made})


def broken(expect: Expectation, witnessed: witness.Testimony) -> list[str]:
    return [each.partition(": ")[2][:3] for each in verdict([expect], witnessed, LIMIT)]


def test_an_honest_run_is_not_accused() -> None:
    expect = registered()
    expect.attempted(name("a"), "no")
    expect.attempted(name("a"), "unknown")
    expect.attempted(name("a"), "", replayed=True)
    expect.shown(LIMIT - 1, 1)
    expect.attempted(name("b"), "unknown")
    expect.shown(LIMIT - 1, 1)
    expect.shown(LIMIT - 2, 1)
    expect.released(b"key", "node 1")
    assert broken(expect, shares("a", "b")) == []
    expect.proven()
    expect.shown(LIMIT, 2)
    assert broken(expect, shares("a", "b")) == []


def test_a_charge_that_was_told_as_none_is_noticed() -> None:
    expect = registered()
    expect.attempted(name("a"), "no")
    expect.attempted(name("a"), "", replayed=True)
    assert broken(expect, shares()) == ["I12"]


def test_a_share_for_an_attempt_that_was_told_as_uncharged_is_noticed() -> None:
    expect = registered()
    expect.attempted(name("a"), "no")
    assert broken(expect, shares("a", seats=1)) == ["I2:"]


def test_an_attempt_charged_twice_is_noticed() -> None:
    expect = registered()
    expect.attempted(name("a"), "", replayed=False)
    expect.attempted(name("a"), "", replayed=False)
    expect.shown(LIMIT - 1)
    assert broken(expect, shares("a")) == ["I5:"]


@pytest.mark.parametrize(("remaining", "accused"), [(10, True), (9, False), (8, False), (7, True)])
def test_a_count_outside_what_was_made_is_noticed(remaining: int, accused: bool) -> None:
    expect = registered()
    expect.attempted(name("sure"), "yes")
    expect.attempted(name("perhaps"), "unknown")
    expect.shown(remaining)
    assert bool(expect.broken) == accused


def test_an_evaluation_that_was_not_counted_is_noticed() -> None:
    expect = registered()
    expect.attempted(name("a"), "unknown")
    expect.shown(LIMIT)
    assert broken(expect, shares("a")) == ["I1:"]


def test_an_evaluation_that_nobody_asked_for_is_noticed() -> None:
    assert broken(registered(), shares("stranger"))[0] == "I1:"


def test_an_older_era_and_a_wrong_key_are_noticed() -> None:
    expect = registered()
    expect.proven()
    expect.shown(None, 1)
    expect.released(b"other", "node 1")
    assert [each.partition(": ")[2][:2] for each in expect.broken] == ["I7", "I4"]
