"""Does a command line that a page shows exist? Read against the very commands, without running one.

Values are not looked at (a page says `FILE`, `N`, `DC@HOST`); names of commands and options are,
and that nothing is given too much or, in a full example, too little.
"""

from __future__ import annotations

import functools
import re
import shlex

import click
import typer.main

from quorumvault.cli import app

PROGRAM = "quorumvault"
ELLIPSIS = "…"
"""Stands for "and so on": what follows is not told, so nothing is missing."""
SHELL = {"|", "||", "&", "&&", ";", "(", ")"}
REDIRECTION = re.compile(r"\d?>>?\s*(?:&\d|\S+)")
OR = re.compile(r"(?<=\w)\|(?=\w)")
"""In `create|status`, told apart from a pipe."""
OR_SIGN = "\N{BROKEN BAR}"


@functools.cache
def _root() -> click.Command:
    return typer.main.get_command(app)


def words_of(line: str) -> list[list[str]]:
    """The calls of our program in a shell line, each without the program's name; also quoted ones.

    Raises:
        ValueError: a quotation mark is left open.

    """
    plain = OR.sub(OR_SIGN, REDIRECTION.sub("", line.removeprefix("$ ")))
    lexer = shlex.shlex(plain, posix=True, punctuation_chars="|&;()<")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    calls: list[list[str]] = []
    current: list[str] | None = None
    for word in lexer:
        if word in SHELL:
            current = None
        elif current is None and word.rpartition("/")[2] == PROGRAM:
            current = []
            calls.append(current)
        else:
            if f"{PROGRAM} " in word:
                calls += words_of(word)
            if current is not None:
                current.append(word)
    return calls


def alternatives(words: list[str]) -> list[list[str]]:
    """`cluster create|status` is two command lines."""
    for at, word in enumerate(words):
        if OR_SIGN in word and not word.startswith("-"):
            return [
                line
                for each in word.split(OR_SIGN)
                for line in alternatives([*words[:at], each, *words[at + 1 :]])
            ]
    return [words]


def complaints(call: list[str], *, full: bool) -> list[str]:
    """What is wrong with a call and each of its alternatives."""
    found = [complaint(words, full=full) for words in alternatives(call)]
    return [why for why in found if why]


def complaint(words: list[str], *, full: bool) -> str:
    """What is wrong with a call; empty when nothing is.

    Args:
        words: what follows the program's name.
        full: an example to be typed as it is, so that required options must be there.

    """
    command = _root()
    path = PROGRAM
    left = list(words)
    untold = any(word.endswith(ELLIPSIS) for word in words)
    while hasattr(command, "commands"):
        if not left or left[0].startswith("-") or left[0] == ELLIPSIS:
            break
        below: dict[str, click.Command] = command.commands
        if left[0] not in below:
            return f"{path} has no command {left[0]!r}, only {', '.join(sorted(below))}"
        command = below[left[0]]
        path += f" {left.pop(0)}"
    return _arguments(command, path, left, strict=full and not untold)


def _arguments(command: click.Command, path: str, left: list[str], *, strict: bool) -> str:
    options: dict[str, click.Parameter] = {
        name: each
        for each in command.params
        if each.param_type_name == "option"
        for name in (*each.opts, *each.secondary_opts)
    }
    options |= dict.fromkeys(("-h", "--help"), click.Option(["--help"], is_flag=True))
    places = [each for each in command.params if each.param_type_name == "argument"]
    seen: set[str] = set()
    given = 0
    while left:
        word, equals, _ = left.pop(0).partition("=")
        if not word.startswith("-") or word == "-":
            given += word != ELLIPSIS
            continue
        option = options.get(word)
        if option is None:
            return f"{path} has no option {word}, only {', '.join(sorted(options))}"
        seen.add(option.name or "")
        if not (equals or getattr(option, "is_flag", False) or getattr(option, "count", False)):
            if not left:
                return f"{path}: {word} needs a value"
            left.pop(0)
    if given > len(places) and all(each.nargs == 1 for each in places):
        return f"{path} takes {len(places)} arguments, not {given}"
    if "help" in seen or not strict:
        return ""
    if hasattr(command, "commands"):
        return "" if seen else f"{path}: a command is missing"
    missing = [
        each.opts[0]
        for each in command.params
        if each.required and not each.envvar and each.param_type_name == "option"
        if each.name not in seen
    ]
    if given < sum(each.required for each in places):
        missing.append(f"{len(places)} arguments")
    return f"{path}: {', '.join(missing)} missing" if missing else ""
