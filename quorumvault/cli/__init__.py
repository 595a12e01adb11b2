"""The command line ``quorumvault`` (design section 8).

Data goes to stdout, talk to stderr. Heavy packages are imported by the command that needs them,
so that `--help` and the nodes of a demo start quickly.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
import typer.main
from typer.core import TyperGroup

from quorumvault.cli import (
    backup,
    bench,
    certs,
    chaos,
    cluster,
    completion,
    config,
    debug,
    demo,
    doctor,
    events,
    hsm,
    leader,
    member,
    node,
    probe,
    record,
)
from quorumvault.cli.examples import EXAMPLES
from quorumvault.cli.exits import Exit, Failure

app = typer.Typer(
    name="quorumvault",
    help="A backup-key vault in five data centers: one password, ten guesses.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cluster.app, name="cluster", help="Create a cluster; see how it is.")
app.add_typer(member.app, name="member", help="Replace a node that is lost for good.")
app.add_typer(node.app, name="node", help="Run one vault node; drain it, have it reload.")
app.add_typer(leader.app, name="leader", help="Hand shards to a node; spread them.")
app.add_typer(hsm.app, name="hsm", help="Initialise and provision a data center's HSM.")
app.add_typer(config.app, name="config", help="Check a node's configuration; show it.")
app.add_typer(certs.app, name="certs", help="Issue and show certificates.")
app.add_typer(record.app, name="record", help="Keep a backup key in the vault; get it back.")
app.add_typer(
    backup.app, name="backup", help="Keep files where nobody else can read them; get them back."
)
app.add_typer(chaos.app, name="chaos", help="Try to break the vault's rules.")
app.add_typer(debug.app, name="debug", help="Collect what helps to understand a fault.")
app.command("demo")(demo.demo)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)
app.command("probe")(probe.probe)
app.command("events")(events.events)
app.command("completion")(completion.completion)


def _version(show: bool) -> None:  # noqa: FBT001 - typer's callback signature
    if show:
        from importlib.metadata import version  # noqa: PLC0415 - only for --version

        sys.stdout.write(f"quorumvault {version('quorumvault')}\n")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A backup-key vault in five data centers: one password, ten guesses."""


def command() -> TyperGroup:
    """The whole program, each command with its example at the end of its help."""
    root = typer.main.get_command(app)
    if not isinstance(root, TyperGroup):
        raise TypeError("the program has no commands")
    for words, lines in EXAMPLES.items():
        group = root
        *path, name = words.split()
        for word in path:
            below = group.commands[word]
            if not isinstance(below, TyperGroup):
                raise TypeError(f"examples: {words!r} is no command")
            group = below
        group.commands[name].epilog = "Example:\n\n" + "\n\n".join(lines)
    return root


def main() -> None:
    """Run one command; a known failure is one line on stderr and its exit code."""
    completion.get_ready()
    try:
        command()(prog_name=completion.PROGRAM)
    except Failure as failure:
        sys.stderr.write(f"quorumvault: {failure}\n")
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
