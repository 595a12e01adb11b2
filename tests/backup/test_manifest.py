"""A manifest comes back frame by frame as it was written, or it is damaged: never anything else."""

import io
import tracemalloc
from itertools import pairwise

import pytest
from manifest_kit import (
    GENERATION,
    HEAD,
    ID,
    KEYS,
    ONE,
    SMALL,
    TWO,
    plain_of,
    raw,
    read,
    sealed_plain,
    small,
    written,
)
from msgspec import msgpack

from engines.encoding import u32
from quorumvault.backup.errors import Damaged, FutureVersion, StorageUnreachable
from quorumvault.backup.keys import Keys
from quorumvault.backup.manifest import ManifestWriter, parse_name, read_manifest
from quorumvault.backup.manifest_frames import (
    MAX_COMPONENT_BYTES,
    MAX_DEPTH,
    MAX_PARTS,
    End,
    File,
    Folder,
    Head,
    Parts,
    check_path,
)
from quorumvault.backup.objects import KIND_MANIFEST, preamble, seal_chunk


def test_every_frame_comes_back():
    assert read(written(small)) == SMALL


def test_an_empty_backup_has_a_head_and_an_end():
    assert read(written(lambda writer: None)) == [HEAD, End(0, 0, 0, 0)]


def test_many_parts_fill_several_frames():
    def tell(writer):
        writer.file((b"big",), 2_500, 0, 0)
        number = writer.chunk(TWO.id, TWO.length)
        writer.parts([(number, place, 1) for place in range(2_500)])

    frames = [frame for frame in read(written(tell)) if isinstance(frame, Parts)]
    assert [len(frame.parts) for frame in frames] == [MAX_PARTS, MAX_PARTS, 452]


class Trickle(io.RawIOBase):
    """A source that hands out a few bytes at a time, as a network does."""

    def __init__(self, data, step):
        self._data, self._step = io.BytesIO(data), step

    def read(self, size=-1):
        return self._data.read(min(size, self._step))


@pytest.mark.parametrize("step", [1, 7, 4_000])
def test_a_source_may_give_less_than_asked(step):
    assert list(read_manifest(KEYS, GENERATION, ID, Trickle(written(small), step))) == SMALL


def test_an_error_of_the_storage_stays_what_it_is():
    class Away(io.RawIOBase):
        def read(self, size=-1):
            raise StorageUnreachable("away")

    with pytest.raises(StorageUnreachable):
        list(read_manifest(KEYS, GENERATION, ID, Away()))


# ------------------------------------------------------------------ names


def test_a_name_tells_generation_and_backup():
    assert parse_name(KEYS.manifest_name(7, ID)) == (7, ID)
    assert parse_name("0000000000000007-" + ID.hex()) == (7, ID)
    assert parse_name("0000000000000001-" + ID.hex()) == (1, ID)
    assert parse_name("7fffffffffffffff-" + ID.hex()) == (2**63 - 1, ID)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "0000000000000000-" + ID.hex(),
        "8000000000000000-" + ID.hex(),
        "000000000000000A-" + ID.hex(),
        "0000000000000007-" + ID.hex()[1:],
        "0000000000000007-" + ID.hex() + "\n",
        "0000000000000007-" + ID.hex() + ".part",
        "x0000000000000007-" + ID.hex(),
        "qv1-x/chunks/0000000000000007-" + ID.hex(),
        "qv1-x/manifests/old/0000000000000007-" + ID.hex(),
        "qv1-x/manifests/old/manifests/0000000000000007-" + ID.hex(),
        "/manifests/0000000000000007-" + ID.hex(),
        "desktop.ini",
    ],
)
def test_what_is_no_manifest_has_no_generation(name):
    assert parse_name(name) is None


# ------------------------------------------------------------------ the storage is hostile


def test_every_changed_byte_is_seen_and_the_object_named():
    whole = written(small)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        with pytest.raises((Damaged, FutureVersion)) as caught:
            read(changed)
        assert isinstance(caught.value, Damaged) or place == 3
        assert KEYS.manifest_name(GENERATION, ID) in str(caught.value)


def test_every_cut_and_every_appended_byte_is_seen():
    whole = written(small)
    for length in [*range(100), *range(100, len(whole), 61), len(whole) - 1]:
        with pytest.raises(Damaged):
            read(whole[:length])
    for more in (b"\0", b"QVB", whole):
        with pytest.raises(Damaged):
            read(whole + more)


@pytest.mark.parametrize(
    "foreign",
    [
        lambda: written(small, generation=GENERATION + 1),
        lambda: written(small, backup_id=bytes(16)),
        lambda: written(small, keys=Keys.of(bytes(32))),
        lambda: bytes(seal_chunk(KEYS, KEYS.chunk_id(b"x"), b"x")),
        lambda: preamble(KIND_MANIFEST) + bytes(seal_chunk(KEYS, bytes(32), b"x"))[5:],
        lambda: bytes(4_157),
    ],
    ids=["generation", "backup_id", "key", "chunk", "chunk said to be a manifest", "zeros"],
)
def test_a_manifest_of_another_place_is_damaged(foreign):
    with pytest.raises(Damaged) as caught:
        read(foreign())
    assert caught.value.objects == (KEYS.manifest_name(GENERATION, ID),)


def big(writer):
    """More than three segments."""
    for number in range(110):
        writer.folder((b"%05d" % number,), 0, 0)
        path = (b"%05d" % number, *[bytes([65 + n]) * 1_000 for n in range(30)])
        for depth in range(2, 32):
            writer.folder(path[:depth], 0, 0)


def test_segments_of_a_big_manifest_keep_their_places():
    one, two = written(big), written(big)
    assert len(read(one)) == 110 * 31 + 2
    cuts = [5, *range(5 + 1_048_576, len(one), 1_048_576), len(one)]
    first, second, third, *rest = (one[a:b] for a, b in pairwise(cuts))
    start = one[:5] + first
    for changed in (
        [start, third, second, *rest],
        [start, second, second, third, *rest],
        [start, third, *rest],
        [start, second, third, *rest[:-1]],
        [start, two[cuts[1] : cuts[2]], third, *rest],
        [two[:45], one[45:]],
    ):
        with pytest.raises(Damaged):
            read(b"".join(changed))


def test_a_later_version_is_said_to_be_one():
    with pytest.raises(FutureVersion, match="version 9 of the format"):
        read(b"QVB\x09\x01whatever")


# ------------------------------------------------------------------ the writer is hostile


A, B = Folder((b"a",), 0, 0), Folder((b"b",), 0, 0)
EMPTY = File((b"e",), 0, 0, 0)
NINE = File((b"n",), 9, 0, 0)
ALL_OF_ONE = Parts(((0, 0, 9),))


def deep(*path):
    return Folder(path, 0, 0)


@pytest.mark.parametrize(
    ("frames", "what"),
    [
        ((), "ends before"),
        ((HEAD,), "ends before"),
        ((HEAD, A), "ends before"),
        ((A, HEAD), "head is first"),
        ((HEAD, HEAD), "head is first"),
        ((HEAD, A, HEAD), "head is first"),
        ((Head(8, ID, 0, ""),), "another backup"),
        ((Head(7, bytes(16), 0, ""),), "another backup"),
        ((HEAD, A, A), "ascend"),
        ((HEAD, B, A), "ascend"),
        ((HEAD, EMPTY, EMPTY), "ascend"),
        ((HEAD, deep(b"e"), EMPTY), "ascend"),
        ((HEAD, deep(b"a-"), deep(b"a")), "ascend"),
        ((HEAD, A, B, deep(b"a", b"x")), "ascend"),
        ((HEAD, deep(b"a", b"x")), "folder is not listed"),
        ((HEAD, A, deep(b"b", b"x")), "folder is not listed"),
        ((HEAD, A, deep(b"a", b"x", b"y")), "folder is not listed"),
        ((HEAD, EMPTY, deep(b"e", b"x")), "folder is not listed"),
        ((HEAD, A, File((b"a", b"x"), 0, 0, 0), deep(b"a", b"x", b"y")), "folder is not listed"),
        ((HEAD, deep()), "does not know"),
        ((HEAD, deep(b"")), "none can have"),
        ((HEAD, deep(b".")), "none can have"),
        ((HEAD, deep(b"..")), "none can have"),
        ((HEAD, deep(b"a/b")), "none can have"),
        ((HEAD, deep(b"/")), "none can have"),
        ((HEAD, deep(b"a\0")), "none can have"),
        ((HEAD, deep(b"x" * (MAX_COMPONENT_BYTES + 1))), "more than 1,024"),
        ((HEAD, deep(*[b"x"] * (MAX_DEPTH + 1))), "does not know"),
        ((HEAD, deep(*[b"x" * 1_000] * 33)), "more than 32,768"),
        ((HEAD, deep(*[b"x" * 1_000] * 66)), "limit is 65,536"),
        ((HEAD, ONE, ONE), "twice"),
        ((HEAD, ONE, TWO, ONE), "twice"),
        ((HEAD, ONE, End(0, 0, 0, 1)), "no file uses"),
        ((HEAD, NINE, ONE, TWO, ALL_OF_ONE, End(1, 0, 9, 2)), "no file uses"),
        ((HEAD, Parts(((0, 0, 1),))), "more parts|not introduced"),
        ((HEAD, NINE, ALL_OF_ONE), "not introduced"),
        ((HEAD, NINE, ONE, Parts(((1, 0, 9),))), "not introduced"),
        ((HEAD, NINE, ONE, Parts(((0, 1, 9),))), "beyond"),
        ((HEAD, NINE, TWO, Parts(((0, 0, 10),))), "more parts"),
        ((HEAD, NINE, TWO, Parts(((0, 0, 9),)), Parts(((0, 0, 1),))), "more parts"),
        ((HEAD, EMPTY, ONE, Parts(((0, 0, 1),))), "more parts"),
        ((HEAD, NINE, ONE, Parts(((0, 0, 8),)), End(1, 0, 9, 1)), "lacks parts"),
        ((HEAD, NINE, EMPTY), "lacks parts"),
        ((HEAD, NINE, ONE, deep(b"x")), "lacks parts"),
        ((HEAD, End(0, 0, 0, 0), A), "padding"),
        ((HEAD, A, End(0, 0, 0, 0)), "does not agree"),
        ((HEAD, A, End(0, 2, 0, 0)), "does not agree"),
        ((HEAD, NINE, ONE, ALL_OF_ONE, End(1, 0, 8, 1)), "does not agree"),
        ((HEAD, NINE, ONE, ALL_OF_ONE, End(1, 0, 9, 2)), "does not agree"),
        ((HEAD, b""), "ends before"),
        ((HEAD, b"\xc1"), "does not know"),
        ((HEAD, [7]), "does not know"),
        ((HEAD, [7, b"a", 1]), "does not know"),
        ((HEAD, ["folder", [b"a"], 0, 0]), "does not know"),
        ((HEAD, [3, [b"a"], 0]), "does not know"),
        ((HEAD, [3, [b"a"], 0, 0, 0]), "does not know"),
        ((HEAD, [3, ["a"], 0, 0]), "does not know"),
        ((HEAD, [3, [b"a"], 0, 0o10000]), "does not know"),
        ((HEAD, [3, [b"a"], 2**63, 0]), "does not know"),
        ((HEAD, [3, [b"a"], 0.0, 0]), "does not know"),
        ((HEAD, [4, [b"a"], -1, 0, 0]), "does not know"),
        ((HEAD, [2, bytes(31), 1]), "does not know"),
        ((HEAD, [2, bytes(32), 0]), "does not know"),
        ((HEAD, [2, bytes(32), 4_194_301]), "does not know"),
        ((HEAD, NINE, ONE, [5, []]), "does not know"),
        ((HEAD, NINE, ONE, [5, [[0, 0, 0]]]), "does not know"),
        ((HEAD, NINE, ONE, [5, [[0, -1, 1]]]), "does not know"),
        ((HEAD, NINE, TWO, [5, [[0, 0, 1]] * 1_025]), "does not know"),
        ((HEAD, msgpack.encode(A) + b"\0"), "does not know"),
        ((HEAD, msgpack.encode(A)[:-1]), "does not know"),
        ((HEAD, b"\x91" * 60_000), "does not know"),
        ((b"\x95\x01\x07\xc4\x10" + ID + b"\x00\xa1\xff",), "does not know"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_damaged(frames, what):
    with pytest.raises(Damaged, match=what):
        read(sealed_plain(plain_of(*frames)))


def test_the_longest_paths_are_kept():
    for path in ((b"x" * MAX_COMPONENT_BYTES,), (b"x",) * MAX_DEPTH, (b"x" * 1_024,) * 32):
        check_path(path)
        folders = [deep(*path[:depth]) for depth in range(1, len(path) + 1)]
        frames = [HEAD, *folders, End(0, len(folders), 0, 0)]
        assert read(sealed_plain(plain_of(*frames))) == frames
    for path in ((), (b"x",) * (MAX_DEPTH + 1), (b"x" * 1_024,) * 32 + (b"x",)):
        with pytest.raises(ValueError, match="a path"):
            check_path(path)


def test_frames_that_fill_the_padded_size_without_an_end_are_damaged():
    """Nothing is left that could be padding, so only the missing end tells."""
    frames = [deep(b"%02d" % number + b"x" * 1_000) for number in range(3)]
    missing = 4_096 - len(b"".join(u32(len(frame)) + frame for frame in raw(HEAD, *frames)))
    frames.append(deep(b"9" * (missing - len(raw(deep(b"9" * 300))[0]) - 4 + 300)))
    plain = plain_of(HEAD, *frames)
    assert len(plain) == 4_096
    assert plain[:4_096].endswith(raw(frames[-1])[0])
    with pytest.raises(Damaged, match="ends before"):
        read(sealed_plain(plain))


def test_neighbouring_names_sort_as_components_not_as_text():
    """`a-` sorts before `a/x` as text; as components a folder's contents come first."""
    frames = [HEAD, A, deep(b"a", b"x"), deep(b"a-"), End(0, 3, 0, 0)]
    assert read(sealed_plain(plain_of(*frames))) == frames


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: plain + bytes(1),
        lambda plain: plain[:-1],
        lambda plain: plain[:-1] + b"\1",
        lambda plain: plain + bytes(2 * 1_048_576),
        lambda plain: plain + bytes(2 * 1_048_576) + b"\1",
        lambda plain: plain.rstrip(b"\0"),
    ],
)
def test_padding_is_exact(spoil):
    with pytest.raises(Damaged):
        read(sealed_plain(spoil(plain_of(*SMALL))))


def test_a_frame_of_4_gib_is_refused_before_it_is_read():
    head = msgpack.encode(HEAD)
    source = io.BytesIO(sealed_plain(u32(len(head)) + head + b"\xff" * 8_000_000))
    with pytest.raises(Damaged, match="limit is 65,536"):
        list(read_manifest(KEYS, GENERATION, ID, source))
    assert source.tell() < 3 * 1_048_576


@pytest.mark.parametrize(
    ("tell", "what"),
    [
        (lambda w: [w.folder((name,), 0, 0) for name in (b"b", b"a")], "ascend"),
        (lambda w: w.file((b"a", b"b"), 0, 0, 0), "folder is not listed"),
        (lambda w: w.file((b"..",), 0, 0, 0), "none can have"),
        (lambda w: w.file((b"a",), 1, 0, 0), "lacks parts"),
        (lambda w: w.chunk(bytes(32), 1), "no file uses"),
        (lambda w: w.chunk(bytes(31), 1), "does not know"),
        (lambda w: w.folder((b"a",), 0, 0o100755), "does not know"),
    ],
)
def test_a_writer_that_breaks_a_rule_is_told_at_once(tell, what):
    with pytest.raises(ValueError, match=what):
        written(tell)


def test_a_finished_manifest_takes_no_more():
    writer = ManifestWriter(KEYS, 1, ID, io.BytesIO(), created_s=0, tool="")
    writer.finish()
    for late in (lambda: writer.folder((b"a",), 0, 0), writer.finish):
        with pytest.raises(ValueError, match="after the last"):
            late()


def test_big_manifests_need_little_memory():
    whole = written(lambda writer: [big_part(writer, number) for number in range(20)])
    assert len(whole) > 16 * 1_048_576
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_manifest(KEYS, GENERATION, ID, io.BytesIO(whole)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20 * 51 + 2
    assert peak < 8 * 1_048_576


def big_part(writer, number):
    """A folder with 50 files whose names fill almost a megabyte."""
    folder = (b"%05d" % number,)
    writer.folder(folder, 0, 0)
    for _ in range(32):
        folder = (*folder, b"x" * 1_000)
        writer.folder(folder, 0, 0)
    for file in range(18):
        writer.file((*folder[:-1], b"y%03d" % file + b"z" * 1_000), 0, 0, 0)
