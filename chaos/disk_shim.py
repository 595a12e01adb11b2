"""A disk that fails or is slow when told to: one process's writes and syncs, at run time.

`disk_shim.c` is compiled once and loaded into a node by LD_PRELOAD; a `DiskShim` is the hand on its
rules, a small file that both sides map. Only files below one directory are touched, so that the
node's log, sockets and token stay as they are. Nothing in the node knows of it.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final, Literal

Call = Literal["write", "sync"]
"""write: write, pwrite, writev, pwritev. sync: fsync, fdatasync, msync."""

FOREVER: Final = 0xFFFF_FFFF
SOURCE: Final = Path(__file__).with_name("disk_shim.c")
_RULE: Final = struct.Struct("<IIII")
"""error, left, delay_us, hits: keep in step with `struct rule`."""
_AT: Final[dict[Call, int]] = {"write": 0, "sync": _RULE.size}
_LEFT: Final = struct.Struct("<I")
_LEFT_AT: Final = 4
_HITS: Final = 3
_SIZE: Final = _RULE.size * len(_AT)


class DiskShimError(Exception):
    """The shim cannot be built; the message says why."""


def build(folder: Path, source: Path = SOURCE) -> Path:
    """Compile a shim into `folder` and return its path; compiled once a folder.

    Raises:
        DiskShimError: no C compiler here, or it failed.

    """
    library = folder / f"{source.stem}.so"
    if library.exists():
        return library
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise DiskShimError(f"{source.name} needs a C compiler: on Debian, apt-get install gcc")
    making = library.with_suffix(".new")
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    done = subprocess.run(
        [compiler, *options, "-o", str(making), str(source), "-ldl"],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise DiskShimError(f"{source.name} does not compile: {done.stderr.decode()[-500:]}")
    making.rename(library)
    return library


class DiskShim:
    """The rules of one process. Set them before or while it runs; `close` when done.

    Args:
        library: what `build` returned.
        rules: path of the rules' file; made anew, all rules off.
        below: only files under this directory are touched.

    """

    def __init__(self, library: Path, rules: Path, below: Path) -> None:
        rules.write_bytes(bytes(_SIZE))
        self._library = library
        self._rules = rules
        self._below = below
        with rules.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)

    @property
    def environment(self) -> dict[str, str]:
        """What the process's environment needs."""
        return {
            "LD_PRELOAD": str(self._library),
            "QUORUMVAULT_SHIM_RULES": str(self._rules),
            "QUORUMVAULT_SHIM_BELOW": f"{self._below.resolve()}/",
        }

    def set(
        self, call: Call, *, error: int = 0, times: int = FOREVER, delay_s: float = 0.0
    ) -> None:
        """The next `times` calls take `delay_s` longer and fail with errno `error` (0: pass)."""
        at = _AT[call]
        # Off first, `left` last: the other side never sees half a rule.
        self._left(at, 0)
        hits = self.hits(call)
        self._map[at : at + _RULE.size] = _RULE.pack(error, 0, int(delay_s * 1e6), hits)
        self._left(at, times)

    def heal(self) -> None:
        """No rule any more; a call that is being delayed still takes its time."""
        for at in _AT.values():
            self._left(at, 0)

    def hits(self, call: Call) -> int:
        """How many calls met a rule so far."""
        return int(_RULE.unpack_from(self._map, _AT[call])[_HITS])

    def close(self) -> None:
        """Let go of the rules' file."""
        self._map.close()

    def _left(self, at: int, times: int) -> None:
        _LEFT.pack_into(self._map, at + _LEFT_AT, times)
