"""What the pages promise exists: links, anchors, commands, options, make targets, settings."""

from __future__ import annotations

import re
import tomllib

import command_lines
import msgspec
import pages
import pytest

from node import config

PAGES = pages.all_pages()
BY_PATH = {each.path: each for each in PAGES}
SHELL_LANGUAGES = ("", "sh", "bash", "console", "shell")
OUTSIDE = ("http://", "https://", "mailto:")


def _name(page: pages.Page) -> str:
    return page.name


@pytest.fixture(params=PAGES, ids=_name)
def page(request: pytest.FixtureRequest) -> pages.Page:
    found: pages.Page = request.param
    return found


def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(page):
    broken = []
    for line, target in page.links:
        if target.startswith(OUTSIDE):
            continue
        file, _, anchor = target.partition("#")
        path = (page.path.parent / file).resolve() if file else page.path
        if not path.is_relative_to(pages.ROOT) or not path.exists():
            broken.append(f"{page.name}:{line}: {target}: no such file")
        elif anchor and (path not in BY_PATH or anchor not in BY_PATH[path].anchors):
            broken.append(f"{page.name}:{line}: {target}: no such heading")
    assert not broken, "\n".join(broken)


def test_every_command_line_that_a_page_shows_can_be_typed(page):
    wrong = []
    for shown in page.shown:
        inline = shown.language == "inline"
        if not inline and shown.language not in SHELL_LANGUAGES:
            continue
        if inline and not shown.text.startswith("quorumvault "):
            continue
        try:
            calls = command_lines.words_of(shown.text)
        except ValueError:
            # A fence without a language holds output as often as commands.
            if f"{command_lines.PROGRAM} " in shown.text:
                wrong.append(f"{page.name}:{shown.line}: {shown.text}: an open quotation mark")
            continue
        for call in calls:
            whys = command_lines.complaints(call, full=not inline)
            wrong += [f"{page.name}:{shown.line}: {why}" for why in whys]
    assert not wrong, "\n".join(wrong)


def test_every_make_target_that_a_page_shows_exists(page):
    rules = re.findall(r"^\.PHONY:(.*)$", (pages.ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {word for rule in rules for word in rule.split()}
    wrong = [
        f"{page.name}:{shown.line}: make {target}"
        for shown in page.shown
        if shown.language in (*SHELL_LANGUAGES, "inline")
        for target in re.findall(r"^(?:\$ )?make ([a-z][a-z-]*)", shown.text)
        if target not in targets
    ]
    assert not wrong, "\n".join(wrong)


def _keys(shape: type[msgspec.Struct], before: str = "") -> set[str]:
    found: set[str] = set()
    for field in msgspec.structs.fields(shape):
        inner = field.type
        while args := getattr(inner, "__args__", ()):
            inner = args[0]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            found |= _keys(inner, f"{before}{field.encode_name}.")
        else:
            found.add(f"{before}{field.encode_name}")
    return found


def _told(table: dict[str, object], before: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in table.items():
        first = value[0] if isinstance(value, list) else value
        if isinstance(first, dict) and key != "peers":
            found |= _told(first, f"{before}{key}.")
        else:
            found.add(f"{before}{key}")
    return found


def test_the_configuration_page_shows_every_key_that_a_node_knows_and_no_other():
    text = (pages.ROOT / "docs/node.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    tables = [tomllib.loads(block) for block in blocks]
    msgspec.convert(tables[0], config._File)
    told = set().union(*(_told(table) for table in tables))
    told |= {
        f"{section}.{key}"
        for section, key in re.findall(r"`\[(\w+)\] (\w+) = …`", text)  # told in prose
    }
    assert told == _keys(config._File)


def test_defaults_on_the_configuration_page_are_the_real_ones():
    text = (pages.ROOT / "docs/node.md").read_text(encoding="utf-8")
    table = tomllib.loads(re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0])
    parsed = msgspec.convert(table, config._File)
    assert parsed.limits == config.Limits()
    assert parsed.store == config._Store()
    assert parsed.log.level == config._Log().level
    assert (
        table["drain_s"]
        == msgspec.convert(
            {key: value for key, value in table.items() if key != "drain_s"}, config._File
        ).drain_s
    )
