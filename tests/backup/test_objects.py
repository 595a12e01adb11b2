"""A chunk object opens to its content under its own name, and to nothing under another."""

import pytest

from quorumvault.backup.errors import Damaged, FutureVersion
from quorumvault.backup.keys import Keys
from quorumvault.backup.objects import (
    CONTENT_BYTES,
    MAX_CHUNK_OBJECT_BYTES,
    chunk_object_bytes,
    open_chunk,
    seal_chunk,
)

KEYS = Keys.of(bytes(range(32)))


@pytest.mark.parametrize("size", [1, 4092, 4093, 100_000, 2_000_000, CONTENT_BYTES])
def test_a_chunk_comes_back(size):
    content = (b"0123456789abcde" * (size // 15 + 1))[:size]
    chunk_id = KEYS.chunk_id(content)
    obj = seal_chunk(KEYS, chunk_id, content)
    assert len(obj) == chunk_object_bytes(size)
    assert open_chunk(KEYS, chunk_id, size, obj, check_id=True) == content


def test_buffers_can_be_used_again():
    sealed, opened = bytearray(MAX_CHUNK_OBJECT_BYTES), bytearray(4 * 1_048_576)
    for content in (b"a" * CONTENT_BYTES, b"b", b"c" * 5000):
        chunk_id = KEYS.chunk_id(content)
        obj = seal_chunk(KEYS, chunk_id, content, into=sealed)
        assert open_chunk(KEYS, chunk_id, len(content), obj, check_id=True, into=opened) == content


def test_a_later_version_is_said_to_be_one():
    obj = bytearray(seal_chunk(KEYS, KEYS.chunk_id(b"x"), b"x"))
    obj[3] = 2
    with pytest.raises(FutureVersion, match="version 2"):
        open_chunk(KEYS, KEYS.chunk_id(b"x"), 1, obj)


def test_an_object_under_another_name_does_not_open():
    obj = seal_chunk(KEYS, KEYS.chunk_id(b"x"), b"x")
    with pytest.raises(Damaged) as caught:
        open_chunk(KEYS, KEYS.chunk_id(b"y"), 1, obj)
    assert caught.value.objects == (KEYS.chunk_name(KEYS.chunk_id(b"y")),)
