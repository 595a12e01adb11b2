"""Whatever a manifest says, it is damaged or obeys every rule of docs/format.md."""

import pytest
from fuzz_kit import fuzz
from hypothesis import given
from hypothesis import strategies as st
from manifest_kit import HEAD, ID, SMALL, plain_of, read, sealed_plain
from msgspec import msgpack

from engines.encoding import u32
from quorumvault.backup.errors import Damaged, FutureVersion
from quorumvault.backup.manifest_frames import Chunk, End, File, Folder, Head, Parts

NAMES = st.sampled_from([b"a", b"b", b"a-", b"\xff", b"..", b""])
PATHS = st.lists(NAMES, max_size=3).map(tuple)
SMALL_INTS = st.integers(-1, 12)
FRAMES = st.one_of(
    st.builds(Head, st.sampled_from([7, 8]), st.just(ID), SMALL_INTS, st.just("t")),
    st.builds(Chunk, st.sampled_from([b"1" * 32, b"2" * 32]), SMALL_INTS),
    st.builds(Folder, PATHS, SMALL_INTS, SMALL_INTS),
    st.builds(File, PATHS, SMALL_INTS, SMALL_INTS, SMALL_INTS),
    st.builds(
        Parts,
        st.lists(st.tuples(SMALL_INTS, SMALL_INTS, SMALL_INTS), max_size=3).map(tuple),
    ),
    st.builds(End, SMALL_INTS, SMALL_INTS, SMALL_INTS, SMALL_INTS),
)


def obeys(frames):
    """The rules once more, as the page has them: slow, all in memory, no word in common."""
    first, *middle, last = frames
    assert isinstance(first, Head)
    assert isinstance(last, End)
    kinds = [type(frame) for frame in middle]
    assert not {Head, End} & set(kinds)
    entries = [frame for frame in middle if isinstance(frame, File | Folder)]
    folders = {entry.path for entry in entries if isinstance(entry, Folder)}
    paths = [entry.path for entry in entries]
    assert len(set(paths)) == len(paths)
    assert paths == sorted(paths)
    for path in paths:
        assert path
        assert all(path[:depth] in folders for depth in range(1, len(path)))
        assert not {b"", b".", b".."} & set(path)
    chunks = [frame for frame in middle if isinstance(frame, Chunk)]
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    used, sizes, seen = set(), {}, 0
    current = None
    for frame in middle:
        if isinstance(frame, File):
            current = frame.path
            sizes[current] = [frame.size, 0]
        elif isinstance(frame, Folder):
            current = None
        elif isinstance(frame, Chunk):
            seen += 1
        else:
            for number, offset, length in frame.parts:
                assert number < seen
                assert offset >= 0
                assert length >= 1
                assert offset + length <= chunks[number].length
                used.add(number)
                sizes[current][1] += length
    assert all(size == got for size, got in sizes.values())
    assert used == set(range(len(chunks)))
    total = sum(size for size, _ in sizes.values())
    assert last == End(len(sizes), len(folders), total, len(chunks))


def damaged_or_right(plain):
    try:
        frames = read(sealed_plain(plain))
    except Damaged:
        return
    obeys(frames)


@st.composite
def backups(draw):
    """The frames of a backup that obeys every rule."""
    names = st.sampled_from([b"a", b"b", b"a-", b"\xff"])
    paths = draw(st.sets(st.lists(names, min_size=1, max_size=3).map(tuple), max_size=6))
    folders = {path[:depth] for path in paths for depth in range(1, len(path))}
    folders |= {path for path in paths if draw(st.booleans())}
    frames, lengths, total = [HEAD], [], 0
    for path in sorted(paths | folders):
        if path in folders:
            frames.append(Folder(path, draw(SMALL_INTS), 0o755))
            continue
        parts, new = [], []
        for _ in range(draw(st.integers(0, 3))):
            if not lengths or draw(st.booleans()):
                lengths.append(draw(st.integers(1, 12)))
                new.append(Chunk(b"%032d" % len(lengths), lengths[-1]))
                number = len(lengths) - 1
            else:
                number = draw(st.integers(0, len(lengths) - 1))
            offset = draw(st.integers(0, lengths[number] - 1))
            parts.append((number, offset, draw(st.integers(1, lengths[number] - offset))))
        size = sum(length for _, _, length in parts)
        total += size
        frames.append(File(path, size, draw(SMALL_INTS), 0o644))
        frames += [*new, *([Parts(tuple(parts))] if parts else [])]
    files = len(paths | folders) - len(folders)
    return [*frames, End(files, len(folders), total, len(lengths))]


@given(backups())
@fuzz(200)
def test_any_backup_comes_back_as_it_is(frames):
    obeys(frames)
    assert read(sealed_plain(plain_of(*frames))) == frames


@given(backups(), st.data())
@fuzz(400)
def test_a_backup_with_one_frame_exchanged_is_damaged_or_obeys_every_rule(frames, data):
    place = data.draw(st.integers(0, len(frames) - 1))
    frames[place : place + data.draw(st.integers(0, 1))] = [data.draw(FRAMES)]
    damaged_or_right(plain_of(*frames))


@given(st.data())
@fuzz(400)
def test_frames_moved_doubled_or_left_out_are_damaged_or_obey_every_rule(data):
    frames = list(data.draw(backups()))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(frames) - 1))
        frame = frames.pop(place)
        for _ in range(data.draw(st.integers(0, 2))):
            frames.insert(data.draw(st.integers(0, len(frames))), frame)
        if not frames:
            return
    damaged_or_right(plain_of(*frames))


@given(st.data())
@fuzz(400)
def test_plaintext_changed_anywhere_is_damaged_or_obeys_every_rule(data):
    plain = bytearray(plain_of(*SMALL))
    content = len(bytes(plain).rstrip(b"\0")) + 2
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, content))
        plain[place] = data.draw(st.integers(0, 255))
    damaged_or_right(bytes(plain))


@given(st.binary(max_size=300))
@fuzz(200)
def test_any_plaintext_after_the_head_is_damaged_or_obeys_every_rule(noise):
    head = msgpack.encode(HEAD)
    damaged_or_right(u32(len(head)) + head + noise + bytes(4_096 - 4 - len(head) - len(noise)))


@given(st.binary(max_size=6_000))
@fuzz(200)
def test_any_object_is_damaged_or_of_the_future(noise):
    for obj in (noise, b"QVB" + noise, b"QVB\x01\x02" + noise, b"QVB\x01\x02\x28" + noise):
        with pytest.raises((Damaged, FutureVersion)):
            read(obj)
