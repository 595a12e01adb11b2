"""Five nodes whose disks can be full, failing, slow, old or foreign, each on its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness import Vault5, wait_until

from chaos.disk_shim import DiskShim, build
from chaos.process_disk import BALLAST, NodeDisk, why_no_mount

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.history import History

MIB = 1 << 20


class DiskVault(Vault5):
    """Data directories are tmpfs of 128 MiB where this machine allows to mount them."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.disks: dict[int, NodeDisk] = {}
        self.shims: dict[int, DiskShim] = {}
        super().__init__(root, **options)

    def prepare(self) -> None:
        library = build(self.root)
        for number, node in self.cluster.nodes.items():
            disk = NodeDisk(node.data_dir, node.folder / "aside")
            if why_no_mount() is None:
                disk.mount()
            shim = DiskShim(library, node.folder / "shim", node.data_dir)
            node.environment |= shim.environment
            self.disks[number], self.shims[number] = disk, shim

    def heal(self) -> None:
        for shim in self.shims.values():
            shim.heal()
        for disk in self.disks.values():
            disk.free()
        self.restart(*(n for n, node in self.cluster.nodes.items() if not node.running))
        self.until_ready()

    def close(self) -> None:
        super().close()
        for disk in self.disks.values():
            disk.unmount()
        for shim in self.shims.values():
            shim.close()

    def data_dir(self, node: int) -> Path:
        return self.cluster.nodes[node].data_dir

    def leave_free(self, node: int, free: int) -> None:
        """Fill the disk of a node up to so many bytes."""
        disk = os.statvfs(self.data_dir(node))
        ballast = self.data_dir(node) / BALLAST
        size = ballast.stat().st_size if ballast.exists() else 0
        size += disk.f_bavail * disk.f_frsize - free
        handle = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, max(size, 0))
            if size > 0:
                os.posix_fallocate(handle, 0, size)
        finally:
            os.close(handle)

    # ---- what a node says

    def mark(self, node: int) -> int:
        """Where the node's log ends now, for `said` and `ended`."""
        log = self.cluster.nodes[node].log
        return log.stat().st_size if log.exists() else 0

    def said(self, node: int, since: int) -> list[str]:
        """The lines that are not structured logs: what it says before it serves, and as it ends."""
        text = self.cluster.nodes[node].log.read_bytes()[since:].decode()
        return [line for line in text.splitlines() if not line.startswith("{")]

    def ended(self, node: int, since: int, timeout_s: float = 60.0) -> tuple[int, str]:
        """Wait until the process is gone: its exit code, and the one line that it said."""
        process = self.cluster.nodes[node].process
        wait_until(lambda: process.returncode is not None, f"node {node} ends", timeout_s)
        lines = self.said(node, since)
        assert len(lines) == 1, lines
        return process.returncode, lines[0]

    def refused(self, node: int) -> tuple[int, str]:
        """Start a node that must not start: its exit code, and the one line that it said."""
        since = self.mark(node)
        self.spawn(node)
        return self.ended(node, since)

    def probe(self, node: int, path: str) -> tuple[int, str]:
        """GET from the ops listener: (status, text); (0, "") when nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.ops_url(node)}{path}", timeout=5) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


def silence_s(history: History, began_ns: int) -> float:
    """The longest time since `began_ns` in which some client was not served by any node."""
    served: dict[str, list[int]] = {}
    for event in history.events:
        if event.phase == "ok" and event.t_ns > began_ns:
            served.setdefault(event.account, [began_ns]).append(event.t_ns)
    return max(b - a for times in served.values() for a, b in pairwise(times)) / 1e9


def mount(*arguments: str) -> None:
    """mount(8)."""
    subprocess.run([shutil.which("mount") or "mount", *arguments], check=True)


def unmount(path: Path) -> None:
    """umount(8)."""
    subprocess.run([shutil.which("umount") or "umount", str(path)], check=True)
