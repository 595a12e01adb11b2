"""Paths of a backup as text: nothing that a terminal obeys, nothing lost, nothing impossible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumvault.backup.names import readings, shown, why_impossible

COMPONENT = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)


@given(st.lists(COMPONENT, min_size=1, max_size=5).map(tuple))
def test_what_is_shown_is_printable_and_names_the_same_file_when_typed_back(
    path: tuple[bytes, ...],
) -> None:
    text = shown(path)
    assert text.isprintable()
    assert text.encode()
    assert path in readings(text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((b"Photos", "Grüße 🎉.jpg".encode()), "Photos/Grüße 🎉.jpg"),
        ((b"caf\xe9.txt",), r"caf\xe9.txt"),
        ((b"a\x1b[31mred",), r"a\x1b[31mred"),
        ((b"two\nlines",), r"two\x0alines"),
        (("gpj.\u202eexe".encode(),), r"gpj.\xe2\x80\xaeexe"),
        (("next\u0085line".encode(),), r"next\xc2\x85line"),
        ((b"back\\slash",), r"back\\slash"),
        ((b"a b",), "a b"),
    ],
)
def test_text_is_shown_as_it_is_and_anything_else_byte_by_byte(
    path: tuple[bytes, ...], text: str
) -> None:
    assert shown(path) == text


def test_a_name_that_is_typed_as_it_stands_on_the_disk_is_found_too() -> None:
    assert readings(r"a\x41") == ((b"aA",), (rb"a\x41",))
    assert readings("/Photos//2024/") == ((b"Photos", b"2024"),)
    assert readings("./Photos") == ((b"Photos",),)


@pytest.mark.parametrize(
    ("name", "linux", "darwin", "win32"),
    [
        (b"photo.jpg", None, None, None),
        ("ü".encode(), None, None, None),
        (b"", "no file name", "no file name", "no file name"),
        (b".", "no file name", "no file name", "no file name"),
        (b"..", "no file name", "no file name", "no file name"),
        (b"a/b", "no file name", "no file name", "no file name"),
        (b"a\0b", "no file name", "no file name", "no file name"),
        (b"caf\xe9", None, "no UTF-8", "no UTF-8"),
        (b"a:b", None, None, "the character :"),
        (b"what?", None, None, "the character ?"),
        (b"a\\b", None, None, r"the character \\"),
        (b"tab\there", None, None, r"the character \x09"),
        (b"nul", None, None, "a device"),
        (b"CON.txt", None, None, "a device"),
        (b"com1.tar.gz", None, None, "a device"),
        ("LPT¹".encode(), None, None, "a device"),
        (b"aux .c", None, None, "a device"),
        (b"console", None, None, None),
        (b"com10", None, None, None),
        (b"ends.", None, None, "ends in a dot"),
        (b"ends ", None, None, "ends in a dot or a space"),
        (b".hidden", None, None, None),
        (b"x" * 255, None, None, None),
        (b"x" * 256, "256 bytes", "256 bytes", "longer than 255"),
        ("ü".encode() * 200, "400 bytes", "400 bytes", None),
        ("🎉".encode() * 128, "512 bytes", "512 bytes", "longer than 255"),
    ],
)
def test_each_system_refuses_the_names_that_it_can_not_have(
    name: bytes, linux: str | None, darwin: str | None, win32: str | None
) -> None:
    for system, expected in (("linux", linux), ("darwin", darwin), ("win32", win32)):
        why = why_impossible(name, system=system)
        if expected is None:
            assert why is None, system
        else:
            assert expected in (why or ""), system
