"""Help and completion as a shell meets them: what they show, and that they are quick."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from quorumvault.cli import reference
from quorumvault.cli.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "quorumvault.cli")
HELP_CPU_S = 1.0
"""A third of a second on an idle machine; twice 0.5 s for one that is not."""


@pytest.fixture
def program(tmp_path):
    """A `quorumvault` on the PATH, which is this tree's."""
    script = tmp_path / "bin" / "quorumvault"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m quorumvault.cli "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join((str(script.parent), os.environ["PATH"]))
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def bash(program: dict[str, str], typed: str, **environment: str) -> list[str]:
    """What bash offers when Tab is pressed after `typed`, by the script that we print."""
    code = """
        eval "$(quorumvault completion bash)"
        read -ra COMP_WORDS <<< "$TYPED"
        [[ $TYPED == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        how=$(complete -p quorumvault) || exit 9
        [[ $how =~ -F\\ ([a-zA-Z_]+) ]] || exit 8
        "${BASH_REMATCH[1]}" quorumvault
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["/bin/bash", "--norc", "-c", code],
        env=program | {"TYPED": typed} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.split()


def test_bash_completes_commands_options_values_and_nodes(program, tmp_path):
    assert bash(program, "quorumvault clu") == ["cluster"]
    assert {"status", "members", "create"} <= set(bash(program, "quorumvault cluster "))
    assert bash(program, "quorumvault cluster status --wat") == ["--watch"]
    assert bash(program, "quorumvault cluster status -o ") == ["table", "json"]
    known = tmp_path / "connection.json"
    known.write_text(json.dumps({"endpoints": [{"node": n} for n in (1, 2, 12)]}))
    asked = "quorumvault node drain 1"
    assert bash(program, asked, QUORUMVAULT_CONNECTION=str(known)) == ["1", "12"]
    known.write_text("nonsense")
    assert bash(program, asked, QUORUMVAULT_CONNECTION=str(known)) == []


@pytest.mark.parametrize(
    ("shell", "has"),
    [("bash", "complete -o default -F"), ("zsh", "compdef"), ("fish", "complete --command")],
)
def test_every_shells_script_asks_this_program(program, shell, has):
    done = subprocess.run(
        [*PROGRAM, "completion", shell],
        env=program, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert has in done.stdout
    assert "_QUORUMVAULT_COMPLETE" in done.stdout


@pytest.mark.parametrize("words", ["", "cluster status", "record recover", "node run", "probe"])
def test_help_is_quick_and_ends_with_an_example(program, words):
    took = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*PROGRAM, *words.split(), "-h"],
            env=program | {"COLUMNS": "200"}, capture_output=True, text=True, timeout=60,
            check=True,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < HELP_CPU_S
    assert "Usage: quorumvault" in done.stdout
    assert all(example in done.stdout for example in EXAMPLES.get(words, ()))


HEAVY = {"aiohttp", "jwt", "cryptography", "lmdb", "msgspec", "pkcs11", "node", "cluster"}


def test_help_imports_neither_the_sdk_nor_a_node():
    code = (
        "import sys; from quorumvault.cli import command; [*command().commands.values()];"
        f"print(*sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_every_command_has_help(program):
    """In one process: forty would take half a minute."""
    code = (
        "from quorumvault.cli import command, reference\n"
        "import sys\n"
        "for words, _ in reference.commands():\n"
        "    try:\n"
        "        command()([*words.split(), '-h'], prog_name='quorumvault')\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, words\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=program, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.count("Usage: quorumvault") == len(dict(reference.commands()))
