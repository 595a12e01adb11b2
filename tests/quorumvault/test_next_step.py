"""The command that the nodes' refusals name is one that exists, written as it is typed."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from cluster.next_step import for_node, replace_node
from quorumvault.cli import app
from quorumvault.cli.exits import Failure


@pytest.mark.parametrize("node_id", [None, 4])
def test_the_next_step_of_a_refusal_is_a_command_that_exists(node_id: int | None) -> None:
    found = re.search(r"'quorumvault ([a-z ]+) (\S+) --cluster DIR'", replace_node(node_id))
    assert found is not None
    words, number = found.groups()
    assert number == ("N" if node_id is None else "4")
    shown = CliRunner().invoke(app, [*words.split(), "--help"])
    assert shown.exit_code == 0
    assert "seat" in shown.stdout


def test_the_next_step_of_a_refusal_lacks_no_option() -> None:
    found = re.search(r"'quorumvault (.+)'", replace_node(4))
    assert found is not None
    result = CliRunner().invoke(app, found[1].split())
    assert isinstance(result.exception, Failure), result.output
    assert "DIR" in str(result.exception)


def test_a_line_that_does_not_know_its_node_gets_the_id_at_the_end() -> None:
    line = f"table 'log' has no sum: {replace_node()}"
    assert for_node(line, 4).endswith("'quorumvault member replace 4 --cluster DIR' (docs/node.md)")
    assert for_node(for_node(line, 4), 5) == for_node(line, 4)
    assert for_node("something else", 4) == "something else"
