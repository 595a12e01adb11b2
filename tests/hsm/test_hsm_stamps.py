"""Killed between any two steps, the token has the old stamp or the new one, never none."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm import durable, errors, stamps

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 40
PER_ROUND = 12


@given(st.integers(min_value=0, max_value=2**64 - 1), st.binary(max_size=stamps.MAX_STAMP_BYTES))
def test_a_packed_stamp_unpacks(sequence, data):
    assert stamps.unpack(stamps.pack(sequence, data)) == (sequence, data)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255), st.data())
def test_a_cut_or_changed_stamp_does_not_unpack(position, difference, data):
    whole = stamps.pack(7, b"some stamp data")
    changed = bytearray(whole)
    changed[position % len(whole)] ^= difference
    assert stamps.unpack(bytes(changed)) is None
    assert stamps.unpack(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None
    assert stamps.unpack(whole + b"x") is None


def test_the_highest_complete_stamp_counts_and_the_next_write_clears_the_rest(ground):
    settings = ground.ready()

    def play(token):
        for value in (
            stamps.pack(9, b"nine"),
            stamps.pack(11, b"eleven")[:-1],
            b"",
            stamps.pack(10, b"ten"),
        ):
            token.create_data(stamps.LABEL, value)
        assert stamps.read(token) == b"ten"
        stamps.write(token, b"eleven")
        assert stamps.read(token) == b"eleven"
        (left,) = token.data_objects(stamps.LABEL)
        assert stamps.unpack(token.value_of(left)) == (11, b"eleven")

    ground.on_token(settings, play)


def test_the_old_stamp_goes_only_when_the_new_one_is_synced(ground, monkeypatch):
    settings = ground.ready()
    there = []

    def watched(module):
        token_files = [path.name for path in next(ground.tokens.iterdir()).glob("*.object")]
        there.append(len(token_files))
        durable.sync_token_files(module)

    monkeypatch.setattr(stamps, "sync_token_files", watched)
    before = len(list(ground.tokens.rglob("*.object")))
    ground.on_token(settings, lambda token: stamps.write(token, b"next"))
    assert there == [before + 1]
    assert len(list(ground.tokens.rglob("*.object"))) == before


def test_a_stamp_that_cannot_be_synced_is_not_acknowledged(ground, monkeypatch):
    made = ground.started()

    def fails(_descriptor):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(errors.HsmAway, match="Input/output error"):
            made.write_stamp_now(b"new")
    ground.wait(lambda: made.healthy)
    assert made.read_stamp() in {b"new", b"node 2, incarnation 0"}


def test_killed_at_random_moments_no_acknowledged_stamp_is_ever_lost(ground):
    settings = ground.blank()
    ground.on_token(settings, lambda token: stamps.write(token, bytes(8)))
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    arguments = [str(settings.module), settings.token_label, settings.pin.reveal()]
    writer = subprocess.Popen(
        [sys.executable, Path(__file__).parent / "stamp_writer.py", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    with writer:
        acknowledged = 0
        for _ in range(ROUNDS):
            writer.stdin.write(b"\n")
            writer.stdin.flush()
            child = int.from_bytes(writer.stdout.read(8), "big")
            first = last = acknowledged
            while last - first < moments.randrange(1, PER_ROUND):
                last = int.from_bytes(writer.stdout.read(8), "big")
            time.sleep(moments.random() * 0.01)  # the random moment within the next write
            os.kill(child, signal.SIGKILL)
            while number := int.from_bytes(writer.stdout.read(8), "big"):
                last = number
            found = ground.on_token(settings, stamps.read)
            acknowledged = int.from_bytes(found[:8], "big")
            assert acknowledged in {last, last + 1}, f"seed {seed}"
            assert len(found) in {8, 308}
        writer.stdin.close()
    assert acknowledged >= ROUNDS
