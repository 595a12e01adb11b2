from collections.abc import Iterable
from typing import Literal, TypedDict

class CrackTimes(TypedDict):
    online_throttling_100_per_hour: str
    online_no_throttling_10_per_second: str
    offline_slow_hashing_1e4_per_second: str
    offline_fast_hashing_1e10_per_second: str

class Feedback(TypedDict):
    warning: str
    suggestions: list[str]

class Result(TypedDict):
    guesses: float
    score: Literal[0, 1, 2, 3, 4]
    crack_times_display: CrackTimes
    feedback: Feedback

def zxcvbn(
    password: str, user_inputs: Iterable[object] | None = None, max_length: int = 72
) -> Result: ...
