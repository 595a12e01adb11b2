"""docs/cli.md is what the commands say of themselves today, and every command has an example."""

from __future__ import annotations

import command_lines
import pages
import pytest

from quorumvault.cli import reference
from quorumvault.cli.examples import EXAMPLES
from quorumvault.cli.exits import Exit

COMMANDS = dict(reference.commands())


def test_the_page_of_the_commands_is_current():
    kept = (pages.ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert kept == reference.page(), "run: make docs"


def test_every_command_has_an_example_and_every_example_a_command():
    assert set(EXAMPLES) == set(COMMANDS), "quorumvault/cli/examples.py has one of each"


@pytest.mark.parametrize("words", COMMANDS)
def test_an_example_is_of_its_command_and_can_be_typed(words):
    for example in EXAMPLES[words]:
        assert example.startswith(f"quorumvault {words}")
        calls = command_lines.words_of(example)
        assert calls
        assert not [why for call in calls for why in command_lines.complaints(call, full=True)]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_says_what_it_does_and_every_option_what_it_is(words):
    each = COMMANDS[words]
    assert each.help
    silent = [one.name for one in each.params if not getattr(one, "help", None)]
    assert not silent


def test_every_exit_code_is_explained():
    assert set(reference.MEANINGS) == set(Exit)
