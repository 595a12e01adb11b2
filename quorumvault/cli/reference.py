"""docs/cli.md, made from the commands themselves: `python -m quorumvault.cli.reference`.

`tests/docs` says when the page is out of date; `make docs` writes it.
"""

from __future__ import annotations

import inspect
import re
import sys
from enum import Enum
from typing import TYPE_CHECKING, Final

import typer
from typer.core import TyperArgument, TyperOption

from quorumvault.cli import command
from quorumvault.cli.completion import PROGRAM
from quorumvault.cli.examples import EXAMPLES
from quorumvault.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.core import TyperCommand, TyperGroup

    AnyCommand = TyperCommand | TyperGroup
    Parameter = TyperArgument | TyperOption

MEANINGS: Final = {
    Exit.OK: "all went well, or is well",
    Exit.UNEXPECTED: "something that should not happen",
    Exit.USAGE: "the command line, a file that it names, or a configuration is wrong",
    Exit.CONNECTION: "nobody answers, or TLS failed",
    Exit.DEGRADED: "some of it did not work, or is not well",
    Exit.NO_QUORUM: "no quorum, or fewer than three HSMs",
    Exit.DENIED: "refused: token, certificate, wrong password, locked, no permission",
    Exit.NOT_FOUND: "no such node, shard, account, backup",
    Exit.CONFLICT: "something else came first, or is in the way",
    Exit.TIMEOUT: "not done in time",
    Exit.CANCELLED: "stopped by Ctrl-C, or the answer to a question was no",
}
HEAD: Final = """# Commands

Made from the commands by `make docs`; every example is checked. `-h` after any of them shows the
same, and `quorumvault completion bash` lets a shell complete them.

Data goes to stdout, talk to stderr. `NO_COLOR` is obeyed. Where a command takes `--connection`,
the environment variable `QUORUMVAULT_CONNECTION` will do instead.

## Exit codes

| code | means |
|---|---|
"""


def commands() -> Iterator[tuple[str, AnyCommand]]:
    """Every command that is not hidden, by its words, in the order of the help."""
    yield from _below(command(), "")


def _below(group: AnyCommand, path: str) -> Iterator[tuple[str, AnyCommand]]:
    below: dict[str, AnyCommand] = getattr(group, "commands", {})
    for name, each in below.items():
        if each.hidden:
            continue
        words = f"{path} {name}".strip()
        if hasattr(each, "commands"):
            yield from _below(each, words)
        else:
            yield words, each


def page() -> str:
    """The whole page."""
    codes = [f"| {code.value} | {MEANINGS[code]} |" for code in Exit]
    sections = [_section(words, each) for words, each in commands()]
    return HEAD + "\n".join([*codes, "", *sections])


def _section(words: str, each: AnyCommand) -> str:
    context = typer.Context(each, info_name=f"{PROGRAM} {words}")
    lines = [f"## {PROGRAM} {words}", "", *_paragraphs(each.help or ""), "```sh"]
    lines += [*EXAMPLES.get(words, ()), "```", ""]
    lines += [
        _parameter(one, context)
        for one in each.params
        if isinstance(one, TyperArgument | TyperOption) and not one.hidden
    ]
    return "\n".join([*lines, ""])


def _paragraphs(text: str) -> Iterator[str]:
    """The help, each paragraph on a line of its own."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        yield " ".join(paragraph.split()).replace("<", r"\<")
        yield ""


def _parameter(one: Parameter, context: typer.Context) -> str:
    """One argument or option, as a line of a list."""
    facts = _facts(one)
    more = f" ({'; '.join(facts)})" if facts else ""
    text = str(getattr(one, "help", None) or "").replace("<", r"\<")
    return f"- {_names(one, context)}{more}: {text}".removesuffix(": ")


def _names(one: Parameter, context: typer.Context) -> str:
    if isinstance(one, TyperArgument):
        return f"`{one.metavar or (one.name or '').upper()}`"
    value = "" if one.is_flag else f" {_kind(one, context)}"
    return ", ".join(f"`{name}{value}`" for name in (*one.opts, *one.secondary_opts))


def _kind(one: Parameter, context: typer.Context) -> str:
    """What is to be given: a|b, TEXT, PATH, INT, FLOAT."""
    shown = one.display_type(context).strip("<>").removeprefix("list[").removesuffix("]")
    word = shown.split()[0]  # of "int range"
    return one.metavar or (word if "|" in word else {"str": "TEXT"}.get(word, word.upper()))


def _facts(one: Parameter) -> list[str]:
    """Required, default, environment."""
    facts = ["required"] if one.required else []
    if getattr(one, "multiple", False):
        facts.append("may be repeated")
    default = one.default
    if isinstance(one.show_default, str):
        facts.append(f"default: {one.show_default}")
    elif default not in (None, False, (), []) and not callable(default):
        facts.append(f"default: {default.value if isinstance(default, Enum) else default}")
    if one.envvar:
        facts.append(f"or `${one.envvar}`")
    return facts


if __name__ == "__main__":
    sys.stdout.write(page())
