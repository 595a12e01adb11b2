"""What a command imports before it works; a clock would say something else on every machine."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from quorumvault._version import VERSION

ROOT = Path(__file__).parents[2]
NOT_FOR_A_FOLDER = {
    *("aiohttp", "asyncio", "fsspec", "jwt", "lmdb", "pkcs11", "prometheus_client", "ssl"),
    *("rich.progress", "zxcvbn", "quorumvault._core", "quorumvault.connection"),
    *("quorumvault.vault", "quorumvault.backup.storage_remote"),
    *("chaos", "cluster", "hsm", "node"),
}
RUN = """
import sys
from quorumvault.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sys.modules, file=sys.stderr)
"""


def modules_of(home: Path, *words: str) -> set[str]:
    """All that is imported when a command has ended well."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words],
        cwd=ROOT, env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return set(done.stderr.splitlines()[-1].split())


def commands_of(modules: set[str]) -> set[str]:
    """The first level of the command line, as far as it was imported."""
    from quorumvault.cli import COMMANDS, GROUPS

    return {name for name in (*COMMANDS, *GROUPS) if f"quorumvault.cli.{name}" in modules}


def test_the_version_is_told_without_a_commands_module(tmp_path):
    assert commands_of(modules_of(tmp_path, "--version")) == {"completion"}


def test_a_backup_to_a_folder_imports_neither_the_sdk_nor_a_provider_nor_other_commands(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one").write_bytes(b"one")
    modules_of(
        tmp_path, *("backup", "enable", "--key", "--storage", str(tmp_path / "copies")),
        *("--digits-file", str(tmp_path / "digits")),
    )  # fmt: skip
    for words in (("create", "photos"), ("restore", "back"), ("status",)):
        paths = [str(tmp_path / word) for word in words[1:]]
        modules = modules_of(tmp_path, "backup", words[0], *paths)
        assert sorted(modules & NOT_FOR_A_FOLDER) == [], words
        assert commands_of(modules) == {"backup", "completion"}


def test_the_version_is_that_of_the_package():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
