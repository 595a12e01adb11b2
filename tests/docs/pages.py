"""The Markdown pages of the tree, taken apart: headings, links, and the commands that they show.

Only as much Markdown as our pages use; no renderer, so that the test of every page takes a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_OURS = {"target", "node_modules", "run", "dist"}
"""Folders with pages of other people, or of one machine."""

FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*(\w*)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")
INLINE_CODE = re.compile(r"(`+)(.+?)\1")
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Shown:
    """One piece of code on a page."""

    line: int
    text: str
    language: str
    """Of the fence; "inline" outside one."""


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path
    anchors: frozenset[str]
    links: tuple[tuple[int, str], ...]
    """(line, target) of every link."""
    shown: tuple[Shown, ...]
    """Code as it is shown: a fence's lines one by one (continued ones joined), inline code."""

    @property
    def name(self) -> str:
        """Where the page is, from the root."""
        return self.path.relative_to(ROOT).as_posix()


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def all_pages() -> list[Page]:
    """Every page of the tree, in order."""
    found = []
    for path in sorted(ROOT.rglob("*.md")):
        parents = path.relative_to(ROOT).parts[:-1]
        if not any(part in NOT_OURS or part.startswith(".") for part in parents):
            found.append(parse(path, path.read_text(encoding="utf-8")))
    return found


def parse(path: Path, text: str) -> Page:
    """Take one page apart."""
    anchors: dict[str, int] = {}
    links: list[tuple[int, str]] = []
    shown: list[Shown] = []
    fence, language, held = "", "", ""
    for number, line in enumerate(text.splitlines(), start=1):
        mark = FENCE.match(line)
        if mark and (not fence or line.strip().startswith(fence)):
            fence, language = ("", "") if fence else (mark[1], mark[2])
            continue
        if fence:
            held += line.rstrip()
            if held.endswith("\\"):
                held = held[:-1] + " "
            else:
                shown.append(Shown(number, held, language))
                held = ""
            continue
        if heading := HEADING.match(line):
            name = slug(heading[1])
            anchors[name] = anchors.get(name, -1) + 1
            if anchors[name]:
                anchors[f"{name}-{anchors[name]}"] = 0
        anchors.update(dict.fromkeys(ANCHOR.findall(line), 0))
        shown += [Shown(number, code[1], "inline") for code in INLINE_CODE.findall(line)]
        links += [(number, target) for target in LINK.findall(INLINE_CODE.sub("", line))]
    return Page(path, frozenset(anchors), tuple(links), tuple(shown))
