"""The command line ``quorumvault`` (design section 8).

Data goes to stdout, talk to stderr. A command's module is imported when the command is asked for,
and heavy packages by the code that needs them, so that all of them start quickly.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, Final

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from quorumvault._version import VERSION
from quorumvault.cli import completion
from quorumvault.cli.examples import EXAMPLES
from quorumvault.cli.exits import Exit, Failure

COMMANDS: Final = ("demo", "bench", "doctor", "probe", "events", "completion")
"""Each is the function of its name in the module of its name."""
GROUPS: Final = {
    "cluster": "Create a cluster; see how it is.",
    "member": "Replace a node that is lost for good.",
    "node": "Run one vault node; drain it, have it reload.",
    "leader": "Hand shards to a node; spread them.",
    "hsm": "Initialise and provision a data center's HSM.",
    "config": "Check a node's configuration; show it.",
    "certs": "Issue and show certificates.",
    "record": "Keep a backup key in the vault; get it back.",
    "backup": "Keep files where nobody else can read them; get them back.",
    "chaos": "Try to break the vault's rules.",
    "debug": "Collect what helps to understand a fault.",
}
"""Each is the `app` in the module of its name, and its help."""


class _Commands(Mapping[str, TyperCommand | TyperGroup]):
    """The program's commands by their names; the module of each is imported when it is asked for.

    All of them together take longer to import than most of them take to run.
    """

    def __init__(self) -> None:
        self._made: dict[str, TyperCommand | TyperGroup] = {}

    def __iter__(self) -> Iterator[str]:
        yield from (*COMMANDS, *GROUPS)

    def __len__(self) -> int:
        return len(COMMANDS) + len(GROUPS)

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        if name not in self._made:
            if name not in COMMANDS and name not in GROUPS:
                raise KeyError(name)
            self._made[name] = _made(name)
        return self._made[name]


def _made(name: str) -> TyperCommand | TyperGroup:
    """A command or group, with its examples at the end of its help."""
    module = import_module(f"{__name__}.{name}")
    alone = typer.Typer(add_completion=False, callback=_root)
    if name in GROUPS:
        alone.add_typer(module.app, name=name, help=GROUPS[name])
    else:
        alone.command(name)(getattr(module, name))
    made = _group(typer.main.get_command(alone)).commands[name]
    if not isinstance(made, TyperCommand | TyperGroup):
        raise TypeError(f"{name!r} is no command")
    for words, lines in EXAMPLES.items():
        first, *path = words.split()
        if first == name:
            each: object = made
            for word in path:
                each = _group(each).commands[word]
            each.epilog = "Example:\n\n" + "\n\n".join(lines)  # type: ignore[attr-defined]
    return made


class _Program(TyperGroup):
    """The group of all commands."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Commands()  # type: ignore[assignment] # typer and click only read it


def _version(show: bool) -> None:  # noqa: FBT001 - typer's callback signature
    if show:
        sys.stdout.write(f"quorumvault {VERSION}\n")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A backup-key vault in five data centers: one password, ten guesses."""


app = typer.Typer(
    name="quorumvault",
    cls=_Program,
    callback=_root,
    help="A backup-key vault in five data centers: one password, ten guesses.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command() -> TyperGroup:
    """The whole program."""
    return _group(typer.main.get_command(app))


def _group(command: object) -> TyperGroup:
    if not isinstance(command, TyperGroup):
        raise TypeError(f"{command!r} has no commands")
    return command


def _told(text: str) -> str:
    """One line; where a person reads it, broken between words and as wide as the terminal is."""
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns
        if width:  # some have none
            text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    return f"{text}\n"


def main() -> None:
    """Run one command; a known failure is one line on stderr and its exit code."""
    completion.get_ready()
    try:
        command()(prog_name=completion.PROGRAM)
    except Failure as failure:
        sys.stderr.write(_told(f"quorumvault: {failure}"))
        sys.exit(failure.exit_code)
    except KeyboardInterrupt:
        sys.exit(Exit.CANCELLED)
    except BrokenPipeError:
        sys.exit(Exit.UNEXPECTED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"quorumvault: {where}{error.strerror}\n")
        sys.exit(Exit.UNEXPECTED)


if __name__ == "__main__":
    main()
