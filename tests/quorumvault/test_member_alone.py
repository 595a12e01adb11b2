"""Two `member replace` in one directory: the second one is refused before it reads anything."""

import fcntl
import os

import pytest
from typer.testing import CliRunner

from quorumvault.cli import member
from quorumvault.cli.exits import Exit, Failure


@pytest.fixture
def held(tmp_path):
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield tmp_path
    os.close(handle)


def replace(directory) -> Failure:
    result = CliRunner().invoke(member.app, ["replace", "4", "--cluster", str(directory)])
    assert isinstance(result.exception, Failure)
    return result.exception


def test_a_second_replacement_in_the_same_directory_is_refused(held):
    failure = replace(held)
    assert failure.exit_code == Exit.CONFLICT
    assert "another 'quorumvault member replace' is at work" in str(failure)
    assert list(held.iterdir()) == []


def test_the_directory_is_free_again_when_a_replacement_has_ended(tmp_path):
    for _ in range(2):
        failure = replace(tmp_path)
        assert failure.exit_code == Exit.USAGE
        assert "cluster.json does not exist" in str(failure)
