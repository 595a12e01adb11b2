"""What operators of other systems type first: no such step, and the way there is (ADR 12)."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from quorumvault.cli import app
from quorumvault.cli.exits import Exit, Failure


@pytest.mark.parametrize(
    "words",
    [
        ["member", "add", "frankfurt@10.0.0.6"],
        ["member", "add", "--peer-urls", "https://10.0.0.6:2380"],
        ["member", "remove", "4"],
        ["member", "promote", "6", "--cluster", "DIR"],
    ],
)
def test_the_steps_of_other_systems_are_refused_with_the_way_to_go(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)

    failure = result.exception
    assert isinstance(failure, Failure), result.output
    assert failure.exit_code is Exit.USAGE
    assert "member replace OLD --cluster DIR --dry-run" in str(failure)
    assert "nothing was changed" in str(failure)
