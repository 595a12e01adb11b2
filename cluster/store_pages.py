"""Reads the pages of a store's file as LMDB would, and believes none of them (I9).

The MACs vouch for every value, and the sums for every row; neither says that a key which *is* there
will be *found* there, nor that a page which is in use will not be given out as a free one. So
before a node starts, every page is looked at: its number, kind and bounds, the order of its keys
and the separators above them, the counts that its tree keeps, and that trees and free list together
have each page once. What is left unchecked is not in use: free pages, gaps, and padding.

Layout after LMDB 0.9 (`mdb.c`: MDB_page, MDB_node, MDB_db, MDB_meta), 64-bit little-endian.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from cluster.store_format import REPLACE_NODE, StoreDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAGIC: Final = 0xBEEFC0DE
VERSION: Final = 1
PAGE_BYTES: Final = 4096
"""LMDB takes the system's page size when the file is made; the meta page says which."""
MAX_DEPTH: Final = 32
MAX_PAGES: Final = 1 << 32
"""16 TiB in pages of 4 KiB; a larger number is no page's."""
SPARE_PAGES: Final = 1024
NO_PAGE: Final = 0xFFFF_FFFF_FFFF_FFFF

_HEADER: Final = struct.Struct("<QHHHH")
"""mp_pgno, mp_pad, mp_flags, mp_lower, mp_upper (or mp_pages, 32 bits, of an overflow page)."""
_OVERFLOW: Final = struct.Struct("<QHHI")
_META: Final = struct.Struct("<IIQQ")
"""mm_magic, mm_version, mm_address, mm_mapsize; two trees and mm_last_pg, mm_txnid follow."""
_TREE: Final = struct.Struct("<IHHQQQQQ")
_META_END: Final = struct.Struct("<QQ")
_NODE: Final = struct.Struct("<HHHH")
"""mn_lo, mn_hi, mn_flags, mn_ksize; of a branch the first three are the page's number."""
_NUMBER: Final = struct.Struct("<Q")
BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8
BIG_DATA, SUB_TREE = 1, 2
INTEGER_KEYS: Final = 8
METAS: Final = 2


class Tree(NamedTuple):
    """MDB_db: the root of one B+tree and what it counts."""

    pad: int
    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


class Meta(NamedTuple):
    """One of the two meta pages: a whole store as of one transaction."""

    txn: int
    last_page: int
    page_bytes: int
    free: Tree
    main: Tree


class Checked(NamedTuple):
    """What a file that passed says."""

    newest: Meta
    older: Meta
    pages: int
    """In use, of both kinds."""


class _Count:
    __slots__ = ("branches", "entries", "leaves", "overflows")

    def __init__(self) -> None:
        self.branches = self.leaves = self.overflows = self.entries = 0


def check_pages(file: Path) -> Checked:
    """Check every page in use of an LMDB file that nobody writes to.

    Raises:
        StoreDamagedError: naming the page and what is wrong with it.
        OSError: the file cannot be read.

    """
    with PageFile(file) as pages:
        newest, older = pages.metas()
        _Walk(pages, newest).everything()
        return Checked(newest, older, newest.last_page + 1)


def look_up(file: Path, meta: Meta, table: bytes, key: bytes) -> bytes | None:
    """The value (inline) under `key` of a named table, in the store as of `meta`; or None.

    Raises:
        StoreDamagedError: the way there is not one.

    """
    with PageFile(file) as pages:
        pages.page_bytes = meta.page_bytes
        found = _descend(pages, meta.main, table)
        if found is None or len(found) != _TREE.size:
            return None
        return _descend(pages, Tree(*_TREE.unpack(found)), key)


class PageFile:
    """Pages by number; read, never mapped: a mapped page that is not there is a signal."""

    def __init__(self, file: Path) -> None:
        self._handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._file = file
        self.page_bytes = PAGE_BYTES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def damaged(self, page: int, what: str) -> StoreDamagedError:
        """The error that names the page."""
        return StoreDamagedError(f"store file {self._file}, page {page}: {what}: {REPLACE_NODE}")

    def read(self, page: int, count: int = 1) -> bytes:
        """`count` pages from `page` on."""
        if page >= MAX_PAGES:
            raise self.damaged(page, "there is no such page")
        size = self.page_bytes * count
        data = os.pread(self._handle, size, page * self.page_bytes)
        if len(data) != size:
            raise self.damaged(page, "the file ends before it")
        return data

    def in_file(self) -> int:
        """How many pages the file has."""
        return os.fstat(self._handle).st_size // self.page_bytes

    def metas(self) -> tuple[Meta, Meta]:
        """The newer and the older meta page."""
        first = self._meta(0)
        self.page_bytes = first.page_bytes
        second = self._meta(1)
        for page, meta in enumerate((first, second)):
            if meta.page_bytes != first.page_bytes:
                raise self.damaged(page, "the two meta pages differ in their page size")
            if meta.txn % METAS != page and meta.txn != 0:
                raise self.damaged(page, f"a meta page of transaction {meta.txn} is not kept here")
        newer, older = sorted((first, second), reverse=True)
        if newer.txn - older.txn != 1 and newer.txn != 0:
            raise self.damaged(
                older.txn % METAS,
                f"transactions {newer.txn} and {older.txn} do not follow each other",
            )
        return newer, older

    def _meta(self, number: int) -> Meta:
        data = self.read(number)
        page, _, flags, _, _ = _HEADER.unpack_from(data)
        at = _HEADER.size
        magic, version, _, _ = _META.unpack_from(data, at)
        at += _META.size
        if (page, flags, magic, version) != (number, META, MAGIC, VERSION):
            raise self.damaged(number, "it is no meta page of this version")
        free = Tree(*_TREE.unpack_from(data, at))
        main = Tree(*_TREE.unpack_from(data, at + _TREE.size))
        last_page, txn = _META_END.unpack_from(data, at + 2 * _TREE.size)
        if free.flags != INTEGER_KEYS or main.flags or main.pad:
            raise self.damaged(number, "its trees have foreign flags")
        page_bytes = free.pad
        if page_bytes < 512 or page_bytes & (page_bytes - 1) or page_bytes > 1 << 16:
            raise self.damaged(number, f"its page size {page_bytes} is none")
        return Meta(txn, last_page, page_bytes, free, main)


def _nodes(pages: PageFile, number: int, data: bytes) -> tuple[int, list[int]]:
    """Kind (BRANCH or LEAF) and the offsets of a tree page's nodes; bounds checked."""
    named, _, kind, lower, upper = _HEADER.unpack_from(data)
    if named != number:
        raise pages.damaged(number, f"it says that it is page {named}")
    if kind not in (BRANCH, LEAF):
        raise pages.damaged(number, f"it is of kind {kind:#x}, and a tree leads to it")
    size = len(data)
    if not _HEADER.size <= lower <= upper <= size or lower % 2:
        raise pages.damaged(number, f"its bounds {lower} and {upper} are none")
    offsets = list(struct.unpack_from(f"<{(lower - _HEADER.size) // 2}H", data, _HEADER.size))
    for offset in offsets:
        if not upper <= offset <= size - _NODE.size:
            raise pages.damaged(number, f"a node at {offset} is out of its bounds")
    return kind, offsets


def _node_end(data: bytes, offset: int, kind: int) -> int:
    low, high, flags, key_bytes = _NODE.unpack_from(data, offset)
    end = offset + _NODE.size + key_bytes
    if kind == LEAF:
        end += _NUMBER.size if flags & BIG_DATA else low | high << 16
    return int(end + end % 2)


def _key(data: bytes, offset: int) -> bytes:
    key_bytes = _NODE.unpack_from(data, offset)[3]
    return data[offset + _NODE.size : offset + _NODE.size + key_bytes]


def _child(data: bytes, offset: int) -> int:
    low, high, flags, _ = _NODE.unpack_from(data, offset)
    return int(low | high << 16 | flags << 32)


def _descend(pages: PageFile, tree: Tree, key: bytes) -> bytes | None:
    """Look a key up in a tree whose keys are bytes."""
    number = tree.root
    for _ in range(MAX_DEPTH):
        if number == NO_PAGE:
            return None
        data = pages.read(number)
        kind, offsets = _nodes(pages, number, data)
        if kind == BRANCH:
            below = [o for i, o in enumerate(offsets) if i == 0 or _key(data, o) <= key]
            if not below:
                return None
            number = _child(data, below[-1])
            continue
        for offset in offsets:
            if _key(data, offset) == key:
                low, high, flags, key_bytes = _NODE.unpack_from(data, offset)
                start = offset + _NODE.size + key_bytes
                return None if flags & BIG_DATA else data[start : start + (low | high << 16)]
        return None
    raise pages.damaged(number, "its tree has no bottom")


def _integer(key: bytes) -> bytes:
    """Keys of the free list: native integers, here made to sort as bytes do."""
    return key[::-1]


def _plain(key: bytes) -> bytes:
    return key


class _Walk:
    """All trees of one meta page; `_seen` has each page once."""

    def __init__(self, pages: PageFile, meta: Meta) -> None:
        self._pages = pages
        self._meta = meta
        # Pages at the end that were taken and freed in one transaction were never written.
        likely = meta.last_page < 2 * pages.in_file() + SPARE_PAGES
        self._seen = bytearray(meta.last_page + 1 if likely else 0)

    def everything(self) -> None:
        """Check both trees, every named one, the free list, and that nothing is left over."""
        if len(self._seen) < METAS:
            raise self._pages.damaged(self._meta.txn % METAS, "its last page is none")
        self._seen[0] = self._seen[1] = 1
        self._tree(self._meta.free, 0, self._free_pages, _integer)
        self._tree(self._meta.main, 1, self._named, _plain)
        missing = self._seen.find(0)
        if missing >= 0:
            raise self._pages.damaged(missing, "neither a tree nor the free list has it")

    def _take(self, page: int, by: int, count: int = 1) -> None:
        for each in range(page, page + count):
            if not METAS <= each < len(self._seen):
                raise self._pages.damaged(by, f"it leads to page {each}, which is none")
            if self._seen[each]:
                raise self._pages.damaged(by, f"page {each} is used twice")
            self._seen[each] = 1

    def _tree(
        self,
        tree: Tree,
        by: int,
        value: Callable[[int, bytes, bytes, int], None],
        order: Callable[[bytes], bytes],
    ) -> None:
        count = _Count()
        depth = 0
        if tree.root != NO_PAGE:
            depth = self._page(tree.root, by, count, value, order, None, None)
        found = (depth, count.branches, count.leaves, count.overflows, count.entries)
        if found != tree[2:7]:
            raise self._pages.damaged(by, f"a tree counts {tree[2:7]} and has {found}")

    def _page(
        self,
        number: int,
        by: int,
        count: _Count,
        value: Callable[[int, bytes, bytes, int], None],
        order: Callable[[bytes], bytes],
        low: bytes | None,
        high: bytes | None,
    ) -> int:
        """Check one page and all below it; keys are in [low, high). Returns the depth."""
        self._take(number, by)
        data = self._pages.read(number)
        kind, offsets = _nodes(self._pages, number, data)
        self._compact(number, data, kind, offsets)
        keys = [order(_key(data, offset)) for offset in offsets]
        if kind == BRANCH:
            count.branches += 1
            return self._branch(number, data, offsets, keys, count, value, order, low, high)
        count.leaves += 1
        count.entries += len(keys)
        if not keys:
            raise self._pages.damaged(number, "it is empty, and a tree leads to it")
        self._ascending(number, keys, low, high)
        for offset in offsets:
            self._leaf_node(number, data, offset, count, value)
        return 1

    def _branch(
        self,
        number: int,
        data: bytes,
        offsets: list[int],
        keys: list[bytes],
        count: _Count,
        value: Callable[[int, bytes, bytes, int], None],
        order: Callable[[bytes], bytes],
        low: bytes | None,
        high: bytes | None,
    ) -> int:
        if len(keys) < 2:
            raise self._pages.damaged(number, "it is a branch of one")
        self._ascending(number, keys[1:], low, high)
        depths = set()
        for at, offset in enumerate(offsets):
            first = low if at == 0 else keys[at]
            last = keys[at + 1] if at + 1 < len(keys) else high
            child = _child(data, offset)
            depths.add(self._page(child, number, count, value, order, first, last))
        if len(depths) != 1:
            raise self._pages.damaged(number, "its branches are of different depth")
        return depths.pop() + 1

    def _ascending(
        self, number: int, keys: list[bytes], low: bytes | None, high: bytes | None
    ) -> None:
        ordered = all(a < b for a, b in pairwise(keys))
        inside = (low is None or low <= keys[0]) and (high is None or keys[-1] < high)
        if not (ordered and inside):
            raise self._pages.damaged(number, "its keys are out of order")

    def _compact(self, number: int, data: bytes, kind: int, offsets: list[int]) -> None:
        """Nodes fill the page from its end without gap or overlap."""
        upper = _HEADER.unpack_from(data)[4]
        at = upper
        for offset in sorted(offsets):
            if offset != at:
                raise self._pages.damaged(number, f"its nodes do not meet at {offset}")
            at = _node_end(data, offset, kind)
        if at != len(data):
            raise self._pages.damaged(number, "its nodes do not fill it")

    def _leaf_node(
        self,
        number: int,
        data: bytes,
        offset: int,
        count: _Count,
        value: Callable[[int, bytes, bytes, int], None],
    ) -> None:
        low, high, flags, key_bytes = _NODE.unpack_from(data, offset)
        size, start = low | high << 16, offset + _NODE.size + key_bytes
        content = data[start : start + size]
        if flags & BIG_DATA:
            (first,) = _NUMBER.unpack_from(data, start)
            pages = -(-(_HEADER.size + size) // self._pages.page_bytes)
            self._take(first, number, pages)
            big = self._pages.read(first, pages)
            if _OVERFLOW.unpack_from(big)[0::2] != (first, OVERFLOW) or (
                _OVERFLOW.unpack_from(big)[3] != pages
            ):
                raise self._pages.damaged(first, "it is not the long value that a tree leads to")
            count.overflows += pages
            content = big[_HEADER.size : _HEADER.size + size]
        value(number, _key(data, offset), content, flags & ~BIG_DATA)

    def _free_pages(self, number: int, key: bytes, content: bytes, flags: int) -> None:
        """One row of the free list: a transaction, and the pages that it freed, descending."""
        if flags or len(key) != _NUMBER.size or len(content) < _NUMBER.size:
            raise self._pages.damaged(number, "a row of the free list is none")
        (pages,) = _NUMBER.unpack_from(content)
        if len(content) != (pages + 1) * _NUMBER.size:
            raise self._pages.damaged(number, "a row of the free list has another length")
        if not 0 < _NUMBER.unpack(key)[0] <= self._meta.txn:
            raise self._pages.damaged(number, "a row of the free list is of no transaction")
        freed = struct.unpack_from(f"<{pages}Q", content, _NUMBER.size)
        if any(a <= b for a, b in pairwise(freed)):
            raise self._pages.damaged(number, "a row of the free list is out of order")
        for page in freed:
            self._take(page, number)

    def _named(self, number: int, _key: bytes, content: bytes, flags: int) -> None:
        """A named table: a tree of its own."""
        if flags != SUB_TREE or len(content) != _TREE.size:
            raise self._pages.damaged(number, "it names a table that is none")
        tree = Tree(*_TREE.unpack(content))
        if tree.flags or tree.pad:
            raise self._pages.damaged(number, "a table has foreign flags")
        self._tree(tree, number, self._value, _plain)

    def _value(self, number: int, _key: bytes, _content: bytes, flags: int) -> None:
        """A row of ours; its MAC is checked when LMDB reads it."""
        if flags:
            raise self._pages.damaged(number, "a row has foreign flags")
