r"""Paths inside a backup: how they are shown, how a typed one is read, which a system can't have.

A path is a tuple of name components, each raw bytes as the owner's disk had them. What is shown is
text that no terminal obeys and no eye misreads: bytes that are no UTF-8, control characters,
direction overrides and the backslash itself stand as `\xNN` (`\\` for the backslash), one escape
per byte. Nothing is lost by it: the shown path, typed back, names the same file.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from quorumvault.backup.manifest_frames import Path

__all__ = ["MAX_NAME_BYTES", "readings", "shown", "why_impossible"]


MAX_NAME_BYTES: Final = 255  # of one component: ext4, APFS, NTFS (in its own units) and others

_ESCAPE: Final = re.compile(rb"\\(?:\\|x([0-9a-fA-F]{2}))")
_WINDOWS_CHARACTERS: Final = frozenset('<>:"\\|?*')
_WINDOWS_DEVICES: Final = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789\u00b9\u00b2\u00b3"]
)


def shown(path: Path) -> str:
    """The path as text for screens and reports, reversible by `readings`."""
    return "/".join(_shown_name(name) for name in path)


def _shown_name(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_shown_character(one) for one in text)


def _shown_character(one: str) -> str:
    if one == "\\":
        return "\\\\"
    if one.isprintable():
        return one
    return "".join(f"\\x{byte:02x}" for byte in one.encode("utf-8", "surrogateescape"))


def readings(text: str) -> tuple[Path, ...]:
    r"""The paths that a typed text may mean: with escapes read, and as it stands.

    A file named `a\x41` is shown as `a\\x41`; whoever types `a\x41` may mean it or `aA`.
    """
    literal = os.fsencode(text)
    unescaped = _ESCAPE.sub(
        lambda match: b"\\" if match[1] is None else bytes.fromhex(match[1].decode()), literal
    )
    both = (_split(unescaped), _split(literal))
    return both[:1] if both[0] == both[1] else both


def _split(path: bytes) -> Path:
    return tuple(name for name in path.split(b"/") if name not in {b"", b"."})


def why_impossible(name: bytes, *, system: str) -> str | None:
    """Why `system` (`sys.platform`) can't have a file of this name; None where it can.

    Sources: POSIX; Apple's APFS (valid UTF-8); Microsoft's "Naming Files, Paths, and Namespaces".
    """
    if not name or name in {b".", b".."} or b"/" in name or b"\0" in name:
        return "is no file name"
    if system == "win32":
        return _why_not_windows(name)
    if len(name) > MAX_NAME_BYTES:
        return f"is {len(name)} bytes long, {MAX_NAME_BYTES} are possible"
    if system == "darwin" and _text(name) is None:
        return "is no UTF-8"
    return None


def _why_not_windows(name: bytes) -> str | None:
    text = _text(name)
    if text is None:
        return "is no UTF-8"
    if len(text.encode("utf-16-le")) > 2 * MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} characters"
    for one in text:
        if one in _WINDOWS_CHARACTERS or one < " ":
            return f"holds the character {_shown_character(one)}"
    if text[-1] in ". ":
        return "ends in a dot or a space"
    if text.split(".", 1)[0].rstrip(" ").lower() in _WINDOWS_DEVICES:
        return "is the name of a device"
    return None


def _text(name: bytes) -> str | None:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None
