"""The disk of one node process: a small file system of its own, and images of what is on it.

Where mounting is allowed, each data directory is a tmpfs of fixed size, so that it can really be
full (ENOSPC) without touching anybody else's disk. An image is taken while the process stands
still: what a snapshot of a volume would hold. A directory is exchanged only while its node is down.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Final

from cluster.store_pages import BRANCH, LEAF, PAGE_BYTES

SIZE_BYTES: Final = 128 * 1024 * 1024
"""Of each node's disk: a hundred times what a short run writes, with room for snapshots."""
BALLAST: Final = "ballast"
CHUNK_BYTES: Final = 1024 * 1024
FILL_PAUSE_S: Final = 0.02
"""Between two chunks: 50 MiB a second at most, so a disk of 128 MiB is full after 2.6 s."""
STORE_FILE: Final = Path("store") / "data.mdb"
HEADER: Final = struct.Struct("<10xHHH")
"""Of a page of LMDB: its kind, and where the gap between its list of rows and its rows is."""


def why_no_mount() -> str | None:
    """The reason why tmpfs cannot be mounted here; None when it can."""
    if os.geteuid() != 0:
        return "mounting a tmpfs of fixed size needs root"
    if shutil.which("mount") is None or shutil.which("umount") is None:
        return "mount is not installed"
    status = Path("/proc/self/status").read_text("utf-8")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    if not int(effective.split()[1], 16) >> 21 & 1:  # CAP_SYS_ADMIN, linux/capability.h
        return "mounting a tmpfs of fixed size needs CAP_SYS_ADMIN"
    return None


class NodeDisk:
    """One node's data directory. The node is down whenever contents are exchanged.

    Args:
        path: the data directory.
        aside: an empty folder's path on another file system, for images; made when needed.

    """

    def __init__(self, path: Path, aside: Path) -> None:
        self.path = path
        self._image = aside / "image"
        self._right = aside / "right"
        self._mounted = False

    def mount(self) -> None:
        """Put a tmpfs of SIZE_BYTES in place of the directory.

        Raises:
            OSError: mount said no.

        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = f"size={SIZE_BYTES},mode=0700"
        _run("mount", "-t", "tmpfs", "-o", options, "quorumvault-chaos", str(self.path))
        self._mounted = True

    def unmount(self) -> None:
        """Take it away again; its contents are gone. Twice is once."""
        if self._mounted:
            _run("umount", str(self.path))
            self._mounted = False

    # ---------------------------------------------------------------- full

    def fill(self) -> int:
        """Write a ballast file until nothing fits any more; returns its bytes. Blocks.

        Not faster than a neighbour would: a node looks every 50 ms, and has to step aside between
        two looks, on a busy machine too.
        """
        descriptor = os.open(self.path / BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        size = CHUNK_BYTES
        try:
            while size:
                time.sleep(FILL_PAUSE_S if size == CHUNK_BYTES else 0)
                try:
                    os.write(descriptor, bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Remove the ballast."""
        (self.path / BALLAST).unlink(missing_ok=True)

    # ---------------------------------------------------------------- images

    @property
    def has_image(self) -> bool:
        """True once `copy` was called."""
        return self._image.exists()

    @property
    def exchanged(self) -> bool:
        """True while the right contents are kept aside."""
        return self._right.exists()

    def copy(self) -> None:
        """Take an image; the process must stand still meanwhile."""
        shutil.rmtree(self._image, ignore_errors=True)
        _copy(self.path, self._image)

    def put_image(self) -> None:
        """Keep the right contents aside and put the image in their place."""
        self._set_aside()
        _empty(self.path)
        _copy(self._image, self.path)

    def flip(self, where: float) -> str:
        """Change one bit of the store's file, `where` of its length; says which byte.

        Gaps of half-full pages, which nobody reads, are passed over; free pages are not.
        """
        self._set_aside()
        file = self.path / STORE_FILE
        size = file.stat().st_size
        at = _beyond_gap(file, min(int(size * where), size - 1))
        with file.open("r+b") as opened:
            opened.seek(at)
            byte = opened.read(1)[0]
            opened.seek(at)
            opened.write(bytes([byte ^ 0x10]))
        return f"byte {at % PAGE_BYTES} of page {at // PAGE_BYTES} of {size // PAGE_BYTES}"

    def put_right(self) -> None:
        """Bring the right contents back."""
        _empty(self.path)
        _copy(self._right, self.path)
        shutil.rmtree(self._right)

    def forget_right(self) -> None:
        """What was kept aside is old by now: the node went on with what it found."""
        shutil.rmtree(self._right, ignore_errors=True)

    def _set_aside(self) -> None:
        shutil.rmtree(self._right, ignore_errors=True)
        _copy(self.path, self._right)


def _beyond_gap(file: Path, at: int) -> int:
    """The same byte, or the first one after the gap between a page's list of rows and its rows."""
    page, byte = divmod(at, PAGE_BYTES)
    with file.open("rb") as opened:
        opened.seek(page * PAGE_BYTES)
        header = opened.read(HEADER.size)
    if len(header) < HEADER.size:
        return at
    kind, lower, upper = HEADER.unpack(header)
    if kind in (BRANCH, LEAF) and lower <= byte < upper < PAGE_BYTES:
        return page * PAGE_BYTES + int(upper)
    return at


def _copy(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in source.iterdir():
        if each.name == BALLAST:
            continue
        if each.is_dir():
            shutil.copytree(each, target / each.name)
        else:
            shutil.copy2(each, target / each.name)


def _empty(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(argv)}: {done.stderr.decode().strip()}")
