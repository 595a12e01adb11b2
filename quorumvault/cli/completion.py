"""``quorumvault completion``: the script that lets a shell complete commands, options and nodes.

The shell runs this program for every Tab, so it has to be quick: see `cli/__init__.py` on imports.
"""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

PROGRAM: Final = "quorumvault"
VARIABLE: Final = "_QUORUMVAULT_COMPLETE"
"""Set by the script when the shell asks what may follow."""
MAX_BYTES: Final = 1 << 20


class Shell(StrEnum):
    """Shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell that is to complete.")],
) -> None:
    """Print a shell's completion script; to try it: eval "$(quorumvault completion bash)"."""
    from typer._completion_shared import get_completion_script  # noqa: PLC0415 - heavy

    script = get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value)
    sys.stdout.write(f"{script}\n")


def get_ready() -> None:
    """Let typer answer the shell, if that is who asks."""
    if VARIABLE in os.environ:
        from typer._completion_classes import completion_init  # noqa: PLC0415 - heavy

        completion_init()


def node_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The nodes of the connection file, for a Tab; none where it cannot be read."""
    path = ctx.params.get("connection") or os.environ.get("QUORUMVAULT_CONNECTION")
    if not path:
        return []
    try:
        with Path(path).open("rb") as file:
            told = json.loads(file.read(MAX_BYTES))
        ids = [str(int(endpoint["node"])) for endpoint in told["endpoints"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [each for each in ids if each.startswith(incomplete)]
