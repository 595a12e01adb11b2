"""The state file: durable, private, and never misread."""

from __future__ import annotations

import json
import os

import pytest

from quorumvault._state import MAX_STATE_BYTES, OpenAttempt, Pins, State, StateFile
from quorumvault._wire import Id, Ke1, Octets
from quorumvault.errors import StateFileError

ATTEMPT = OpenAttempt(Ke1(b"\x01" * 96), Octets(b"\x02" * 192), "unknown")


def test_what_is_saved_is_loaded_by_the_next_process(tmp_path):
    state = State(attempt=ATTEMPT, pins=Pins(opaque_public_key=Id(b"\x03" * 32)))
    StateFile(tmp_path / "s").save(state)
    assert StateFile(tmp_path / "s").load() == state


def test_only_its_owner_may_read_it_and_nothing_else_is_left_behind(tmp_path):
    path = tmp_path / "s"
    old_mask = os.umask(0)
    try:
        StateFile(path).save(State(attempt=ATTEMPT))
    finally:
        os.umask(old_mask)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_an_open_attempt_does_not_stay_in_what_a_killed_write_left(tmp_path):
    child = os.fork()
    if child == 0:
        os.fsync = lambda _: os._exit(0)
        try:
            StateFile(tmp_path / "s").save(State(attempt=ATTEMPT))
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    StateFile(tmp_path / "s").save(State())
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_missing_file_is_a_fresh_state(tmp_path):
    assert StateFile(tmp_path / "s").load() == State()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"format":1,"unknown":1}',
        b'{"format":1,"attempt":{"ke1":"AAAA","client_state":"AAAA","charged":"no"}}',
        b'{"format":1,"pins":{"record_id":"' + b"A" * 42 + b'B"}}',
        b"x" * (MAX_STATE_BYTES + 1),
    ],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "s"
    path.write_bytes(text)
    with pytest.raises(StateFileError):
        StateFile(path).load()
    assert path.read_bytes() == text


def test_a_file_of_a_newer_version_says_update(tmp_path):
    path = tmp_path / "s"
    path.write_text(json.dumps({"format": 2, "anything": "else"}))
    with pytest.raises(StateFileError, match="update quorumvault"):
        StateFile(path).load()


def test_two_calls_cannot_use_one_file_at_once(tmp_path):
    one, two = StateFile(tmp_path / "s"), StateFile(tmp_path / "s")
    with one.locked(), pytest.raises(StateFileError, match="in use"), two.locked():
        pass
    with two.locked():
        pass


def test_a_child_forked_during_a_call_does_not_keep_the_file_in_use(tmp_path):
    file = StateFile(tmp_path / "s")
    ended, end = os.pipe()
    with file.locked():
        child = os.fork()
        if child == 0:
            os.close(end)
            os.read(ended, 1)  # as between a fork and its exec: it has all descriptors still
            os._exit(0)
    try:
        with file.locked():
            pass
    finally:
        os.close(ended)
        os.close(end)
        os.waitpid(child, 0)


def test_a_refused_write_leaves_the_old_state(tmp_path):
    file = StateFile(tmp_path / "s")
    file.save(State(attempt=ATTEMPT))
    broken = StateFile(tmp_path / "missing" / "s")
    with pytest.raises(StateFileError, match="cannot write"):
        broken.save(State())
    assert file.load().attempt == ATTEMPT


def test_without_a_path_the_state_lives_in_memory():
    file = StateFile(None)
    file.save(State(attempt=ATTEMPT))
    assert file.load().attempt == ATTEMPT


def test_a_state_never_shows_its_bytes():
    assert "x01" not in repr(State(attempt=ATTEMPT))
