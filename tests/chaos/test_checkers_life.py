"""All checkers over random lives: honest ones pass, and a changed answer is mostly noticed."""

from __future__ import annotations

import random

import msgspec
from checker_kit import LIMIT, Life, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.checkers import Final, judge


def judged(story, limit=LIMIT):
    return judge(story.events, story.testimony, Final(), limit)


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 4), st.integers(5, 120))
def test_an_honest_life_is_never_accused(dice, clients, steps):
    found = judged(Life(dice, clients).run(steps))
    assert not found, "\n".join(map(str, found))


def altered(events, dice):
    """One answer that is not what was answered: (what was changed, the events)."""
    answers = [place for place, event in enumerate(events) if event.phase == "ok" and event.receipt]
    place = dice.choice(answers)
    event = events[place]
    changes = {
        "version": event.receipt,
        "era": event.op in ("attempt", "observe"),
        "remaining": event.guesses_remaining,
        "replayed": event.replayed is not None,
        "state": event.op == "observe",
    }
    what = dice.choice([name for name, possible in changes.items() if possible])
    match what:
        case "version":
            step = dice.choice([-1, 1])
            version = event.receipt.version + step
            new = msgspec.structs.replace(event, receipt=seen(version, event.receipt.index))
        case "era":
            new = msgspec.structs.replace(event, era=event.era + 1)
        case "remaining":
            new = msgspec.structs.replace(event, guesses_remaining=event.guesses_remaining + 1)
        case "replayed":
            new = msgspec.structs.replace(event, replayed=not event.replayed)
        case "state":
            other = "none" if event.state != "none" else "active"
            new = msgspec.structs.replace(event, state=other)
    return what, [*events[:place], new, *events[place + 1 :]]


def test_nearly_every_altered_answer_is_noticed():
    """Not all can be: a version that no other answer bounds is as good as its neighbour."""
    noticed, made = 0, {}
    for seed in range(200):
        dice = random.Random(seed)
        story = Life(dice, clients=3).run(60)
        what, events = altered(story.events, dice)
        story.events = events
        caught = bool(judged(story))
        noticed += caught
        hits, tries = made.get(what, (0, 0))
        made[what] = (hits + caught, tries + 1)
    assert noticed >= 190, made
