"""A chunk object opens to its content under its own name, and to nothing under another."""

import io
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from engines.encoding import enc, u32
from quorumvault.backup.errors import Damaged, FutureVersion
from quorumvault.backup.keys import Keys
from quorumvault.backup.manifest import ManifestWriter
from quorumvault.backup.objects import (
    CONTENT_BYTES,
    KIND_CHUNK,
    MAX_CHUNK_OBJECT_BYTES,
    chunk_object_bytes,
    chunk_plain_bytes,
    open_chunk,
    preamble,
    seal_chunk,
)
from quorumvault.backup.padding import MIN_PADDED_BYTES, padded, padme
from quorumvault.backup.stream import seal

KEYS = Keys.of(bytes(range(32)))
OTHER = Keys.of(bytes(32))


def content_of(size):
    return (b"0123456789abcde" * (size // 15 + 1))[:size]


def sealed(content, keys=KEYS):
    return bytearray(seal_chunk(keys, keys.chunk_id(content), content))


def opened(obj, content, keys=KEYS):
    chunk_id = keys.chunk_id(content)
    return bytes(open_chunk(keys, chunk_id, len(content), obj, check_id=True))


@pytest.mark.parametrize("size", [1, 4092, 4093, 100_000, 2_000_000, CONTENT_BYTES])
def test_a_chunk_comes_back(size):
    content = content_of(size)
    obj = sealed(content)
    assert len(obj) == chunk_object_bytes(size)
    assert opened(obj, content) == content


def test_a_full_chunk_is_4_mib_before_sealing():
    assert chunk_plain_bytes(CONTENT_BYTES) == 4 * 1024 * 1024
    assert MAX_CHUNK_OBJECT_BYTES == 4_194_429


@pytest.mark.parametrize("size", [0, CONTENT_BYTES + 1])
def test_a_chunk_has_content_and_no_more_than_fits(size):
    with pytest.raises(ValueError, match="1 to 4,194,300"):
        seal_chunk(KEYS, bytes(32), bytes(size))


def test_buffers_can_be_used_again():
    into, out = bytearray(MAX_CHUNK_OBJECT_BYTES), bytearray(4 * 1_048_576)
    for content in (b"a" * CONTENT_BYTES, b"b", b"c" * 5000):
        chunk_id = KEYS.chunk_id(content)
        obj = seal_chunk(KEYS, chunk_id, content, into=into)
        assert open_chunk(KEYS, chunk_id, len(content), obj, check_id=True, into=out) == content


def test_contents_may_be_any_kind_of_bytes():
    for kind in (bytes, bytearray, memoryview):
        obj = seal_chunk(KEYS, KEYS.chunk_id(kind(b"abc")), kind(b"abc"))
        assert opened(kind(obj), b"abc") == b"abc"


def test_many_threads_share_the_keys():
    def there_and_back(seed):
        content = bytes([seed]) * 1_500_000
        return opened(sealed(content), content) == content

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(there_and_back, range(24)))


def test_every_changed_byte_is_seen_and_the_object_named():
    whole = sealed(b"a short message")
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        with pytest.raises((Damaged, FutureVersion)) as caught:
            opened(changed, b"a short message")
        assert KEYS.chunk_name(KEYS.chunk_id(b"a short message")) in str(caught.value)
        assert isinstance(caught.value, Damaged) or place == 3


@pytest.mark.parametrize("place", [5, 1_048_575, 1_048_581, 1_048_600, 2_000_000, -1, -17])
def test_a_changed_byte_in_a_big_object_is_seen(place):
    content = content_of(CONTENT_BYTES)
    obj = sealed(content)
    obj[place] ^= 0x80
    with pytest.raises(Damaged):
        opened(obj, content)


@pytest.mark.parametrize("length", [0, 1, 4, 5, 45, 60, 61, 100, 4_156, 4_158, 9_000])
def test_a_cut_off_or_longer_object_is_damaged(length):
    obj = (bytes(sealed(b"x")) + bytes(9_000))[:length]
    with pytest.raises(Damaged):
        opened(obj, b"x")


def test_later_versions_are_said_to_be_so_whatever_follows():
    for rest in (bytes(sealed(b"x"))[4:], b"?", bytes(100)):
        with pytest.raises(FutureVersion, match=r"version 2 of the format.*update"):
            opened(b"QVB\x02" + rest, b"x")
    with pytest.raises(Damaged):
        opened(b"QVB\x02", b"x")


def manifest_object():
    out = io.BytesIO()
    ManifestWriter(KEYS, 1, bytes(16), out, created_s=0, tool="").finish()
    return out.getvalue()


def as_kind_chunk(obj):
    return preamble(KIND_CHUNK) + bytes(obj)[5:]


@pytest.mark.parametrize(
    "foreign",
    [
        lambda: sealed(b"y"),
        lambda: sealed(b"x", OTHER),
        manifest_object,
        lambda: as_kind_chunk(manifest_object()),
        lambda: b"-----BEGIN AGE ENCRYPTED FILE-----" + bytes(4_123),
        lambda: bytes(4_157),
    ],
    ids=[
        "another id",
        "another key",
        "a manifest",
        "a manifest said to be a chunk",
        "age",
        "zeros",
    ],
)
def test_what_is_not_this_chunk_is_damaged(foreign):
    with pytest.raises(Damaged) as caught:
        opened(foreign(), b"x")
    assert caught.value.objects == (KEYS.chunk_name(KEYS.chunk_id(b"x")),)


def test_segments_of_two_objects_do_not_mix():
    content = content_of(CONTENT_BYTES)
    one, two = sealed(content), sealed(content)
    assert one != two
    start = 5 + 1_048_576
    with pytest.raises(Damaged):
        opened(one[:start] + two[start:], content)


def sealed_plain(plain, chunk_id):
    """What only the holder of the key can make."""
    aad = enc("backup-chunk", KEYS.key_id, chunk_id)
    return preamble(KIND_CHUNK) + seal(KEYS.chunk_key, aad, plain)


def test_a_writer_without_care_is_noticed():
    chunk_id = KEYS.chunk_id(b"x")
    for plain, what in (
        (u32(2) + b"x" + bytes(4_091), "not of the length"),
        (u32(1) + b"x" + bytes(4_090) + b"1", "padding"),
        (u32(1) + b"y" + bytes(4_091), "not what its name says"),
        (u32(1) + b"x" + bytes(4_092), "has 4,158 bytes"),
    ):
        with pytest.raises(Damaged, match=what):
            open_chunk(KEYS, chunk_id, 1, sealed_plain(plain, chunk_id), check_id=True)


def test_names_and_text_of_keys_show_no_secret():
    secret = os.urandom(32)
    keys = Keys.of(secret)
    shown = repr(keys) + str(keys) + keys.folder + keys.chunk_name(bytes(32))
    for hidden in (secret, keys.chunk_key, keys.manifest_key, keys._name_key, keys._cut_key):
        assert hidden.hex() not in shown
        assert repr(hidden)[2:-1] not in shown
    assert keys.key_id.hex() in keys.folder


def test_each_purpose_has_a_key_of_its_own():
    keys = {KEYS.chunk_key, KEYS.manifest_key, KEYS._name_key, KEYS._cut_key}
    assert len(keys) == 4
    assert KEYS.cut_mark(b"x") != KEYS.chunk_id(b"x")


def test_keys_and_names_have_exact_sizes():
    for wrong in (
        lambda: Keys.of(bytes(31)),
        lambda: KEYS.chunk_name(bytes(31)),
        lambda: KEYS.manifest_name(0, bytes(16)),
        lambda: KEYS.manifest_name(2**63, bytes(16)),
        lambda: KEYS.manifest_name(1, bytes(15)),
    ):
        with pytest.raises(ValueError):
            wrong()


def test_padding_costs_at_most_12_percent_and_keeps_the_order():
    for size in [*range(3_000), *range(10**6, 10**6 + 40_000, 17), *(2**n + 1 for n in range(50))]:
        there = padme(size)
        assert size <= there <= size * 1.12
        assert padme(there) == there
    assert [padme(size) for size in range(50_000)] == sorted(map(padme, range(50_000)))
    with pytest.raises(ValueError):
        padme(-1)


def test_chunks_have_257_sizes():
    assert padded(0) == padded(4_096) == MIN_PADDED_BYTES
    sizes, size = set(), 0
    while size < 4 * 1_048_576:
        size = padded(size + 1)
        sizes.add(size)
    assert len(sizes) == 257
