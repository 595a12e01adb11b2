"""How hard a password is to guess (zxcvbn: Wheeler, USENIX Security 2016), and the least allowed.

The vault allows ten guesses, so a score of 2 would hold against strangers; 3 is asked for because
those who guess know their victim. Nothing of the password is in what is returned or raised (I11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from quorumvault.backup.errors import WeakPassword

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_SCORE: Final = 3
MIN_CHARACTERS: Final = 8

MAX_RATED: Final = 64
"""Characters that zxcvbn is given at once: its time grows with their square and more."""

MAX_HINTS: Final = 32

Score = Literal[0, 1, 2, 3, 4]

WORDS: Final[dict[int, str]] = {
    0: "very weak",
    1: "weak",
    2: "fair",
    3: "good",
    4: "strong",
}
"""A word for each score."""


@dataclass(frozen=True, slots=True)
class Strength:
    """What guessing a password would take.

    Attributes:
        score: 0 (a list of common passwords has it) to 4.
        advice: what would help, a sentence each; empty for a good one.
        crack_time: for whoever could try ten thousand a second, in words ("3 hours"). The vault
            itself allows ten guesses in all.

    """

    score: Score
    advice: tuple[str, ...]
    crack_time: str

    @property
    def word(self) -> str:
        """The score as a word, "very weak" to "strong"."""
        return WORDS[self.score]

    @property
    def enough(self) -> bool:
        """At least the score that `require` asks for; it asks for a length, too."""
        return self.score >= MIN_SCORE


def rate(password: str | bytes, hints: Sequence[str] = ()) -> Strength:
    """Rate a password; in well under a second at any length.

    Args:
        password: as typed. Of a long one the first and the last 64 characters are rated, and the
            better of the two counts.
        hints: words that somebody who knows the owner tries first: account, names, dates; at most
            32 of them, 64 characters each, are looked at.

    """
    text = password.decode("utf-8", "replace") if isinstance(password, bytes) else password
    if not text:
        return Strength(0, ("Type a password.",), "no time")

    from zxcvbn import zxcvbn  # noqa: PLC0415 - its word lists take a fifth of a second to load

    known = [hint[:MAX_RATED] for hint in hints[:MAX_HINTS] if hint]
    parts = {text[:MAX_RATED], text[-MAX_RATED:]}
    best = max((zxcvbn(part, user_inputs=known) for part in parts), key=lambda r: r["guesses"])
    feedback = best["feedback"]
    said = (feedback["warning"], *feedback["suggestions"]) if best["score"] < MIN_SCORE else ()
    advice = tuple(f"{sentence.rstrip('.')}." for sentence in said if sentence)
    crack_time = best["crack_times_display"]["offline_slow_hashing_1e4_per_second"]
    return Strength(best["score"], advice, crack_time)


def require(password: str | bytes, hints: Sequence[str] = ()) -> Strength:
    """Rate a password and refuse a bad one.

    Raises:
        WeakPassword: fewer than 8 characters, or a score below 3 (of 4).

    """
    strength = rate(password, hints)
    text = password.decode("utf-8", "replace") if isinstance(password, bytes) else password
    if len(text) < MIN_CHARACTERS:
        raise WeakPassword(
            f"the password is too short: it needs at least {MIN_CHARACTERS} characters;"
            " a few unusual words are good",
            score=strength.score,
            advice=strength.advice,
        )
    if not strength.enough:
        told = " ".join(strength.advice) or "Add another word or two; unusual ones are better."
        raise WeakPassword(
            f"the password is too easy to guess ({strength.word}). {told}",
            score=strength.score,
            advice=strength.advice,
        )
    return strength
