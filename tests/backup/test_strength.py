"""Passwords: rated, and bad ones refused, in bounded time and without repeating them."""

from __future__ import annotations

import time

import pytest

from quorumvault.backup.errors import WeakPassword
from quorumvault.backup.strength import rate, require

GOOD = "cobalt ferry underneath nine"


@pytest.mark.parametrize(
    ("password", "least", "most"),
    [
        ("", 0, 0),
        ("password", 0, 0),
        ("qwertyuiop", 0, 1),
        ("a" * 5000, 0, 1),
        ("liverpool1984", 0, 2),
        (GOOD, 4, 4),
        (GOOD.encode(), 4, 4),
        ("a" * 64 + GOOD, 4, 4),
        (b"\xff\xfe\x00 no text at all \x80\x81", 3, 4),
    ],
)
def test_passwords_are_rated_from_0_to_4(password, least, most):
    assert least <= rate(password).score <= most


def test_what_the_owner_is_known_by_counts_as_known():
    assert (
        rate("marguerite-yourcenar").score
        > rate("marguerite-yourcenar", ["Marguerite", "yourcenar"]).score
    )


def test_a_bad_one_comes_with_advice_and_a_good_one_without():
    assert rate("password").advice[0] == "This is a top-10 common password."
    assert all(sentence.endswith(".") for sentence in rate("abcabcabc").advice)
    good = rate(GOOD)
    assert (good.advice, good.word, good.enough) == ((), "strong", True)
    assert good.crack_time == "centuries"


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("", "too short"),
        ("x9$Kq2!", "at least 8 characters"),
        ("ééééééé", "at least 8 characters"),
        ("iloveyou2", "too easy to guess"),
    ],
)
def test_a_bad_password_is_refused(password, says):
    with pytest.raises(WeakPassword, match=says) as caught:
        require(password)
    assert caught.value.score == rate(password).score
    assert caught.value.advice == rate(password).advice


def test_a_good_password_passes_and_its_strength_is_told():
    assert require(GOOD, ["alice"]).score == 4


@pytest.mark.parametrize("password", ["hunter2hunter2", "zq-canary-7", "Canary"])
def test_neither_refusal_nor_rating_repeats_the_password(password):
    said = repr(rate(password))
    try:
        require(password)
    except WeakPassword as refusal:
        said += str(refusal) + repr(refusal) + repr(vars(refusal))
    assert password.lower() not in said.lower()


@pytest.mark.parametrize(
    "password", ["aA1" * 40_000, "4@8({[<6|" * 1000, "\ud800" * 300, "19" * 100_000, "é" * 50_000]
)
def test_very_long_and_odd_passwords_are_rated_quickly(password):
    rate("the word lists are loaded")
    before = time.process_time()
    rate(password, [password] * 1000)
    assert time.process_time() - before < 5
