"""The command that the nodes' refusals name is one that exists, written as it is typed."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from cluster.next_step import replace_node
from quorumvault.cli import app


@pytest.mark.parametrize("node_id", [None, 4])
def test_the_next_step_of_a_refusal_is_a_command_that_exists(node_id: int | None) -> None:
    found = re.search(r"'quorumvault ([a-z ]+) (\S+)'", replace_node(node_id))
    assert found is not None
    words, number = found.groups()
    assert number == ("N" if node_id is None else "4")
    shown = CliRunner().invoke(app, [*words.split(), "--help"])
    assert shown.exit_code == 0
    assert "seat" in shown.stdout
