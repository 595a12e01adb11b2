"""What `quorumvault backup` remembers between two calls: where, who, and what is backed up.

A profile is a folder (0700) under XDG_STATE_HOME: the client's own (quorumvault/backup/device.py),
which leaves names with `app-` to its app. `app-settings.json` holds options, never a secret: an
option of the storage that is one is named by its file (`secret=@FILE`) and read afresh each time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
import typer
from msgspec import Struct

from quorumvault import _files
from quorumvault.backup import storage_names
from quorumvault.backup.errors import DeviceStateError, StorageError
from quorumvault.backup.storage_names import parse_options
from quorumvault.cli.record_reach import small_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILE: Final = "app-settings.json"
FORMAT: Final = 1
MAX_SETTINGS_BYTES: Final = 1 << 20
PROFILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SECRET_WORDS: Final = (
    *("secret", "password", "passwd", "pwd", "passphrase", "token", "auth", "credential"),
    *("account_key", "private_key", "api_key", "apikey", "connection_string", "signature", "sas"),
)
"""An option of the storage with one of these in its name is not taken from the command line."""


class Settings(Struct, frozen=True):
    """The options that need not be repeated.

    Attributes:
        storage: URL of the storage.
        storage_options: as they were given, with the full path of an @FILE.
        paths: what was backed up last, absolute.

    """

    format: int = FORMAT
    storage: str | None = None
    storage_options: tuple[str, ...] = ()
    connection: str | None = None
    account: str | None = None
    endpoints: tuple[str, ...] = ()
    ca: str | None = None
    token_file: str | None = None
    paths: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    skip_unreadable: bool = False


def folder(name: str) -> Path:
    """Where the profile of that name is, whether it exists or not.

    Raises:
        typer.BadParameter: no name for a folder.

    """
    if PROFILE_NAME.fullmatch(name) is None:
        raise typer.BadParameter("--profile is 1-64 letters, digits, dots, dashes, underscores")
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "quorumvault" / "backup" / name


def load(profile: Path) -> Settings:
    """The profile's settings; empty ones when there are none yet.

    Raises:
        DeviceStateError: damaged, or from a newer version.

    """
    path = profile / FILE
    try:
        text = _files.read_file(path, MAX_SETTINGS_BYTES)
        if text is None:
            return Settings()
        told = json.loads(text)
        if isinstance(told, dict) and int(told.get("format", 0)) > FORMAT:
            raise DeviceStateError(f"{path} is from a newer version: update quorumvault")
        return msgspec.convert(told, Settings)
    except OSError as error:
        raise DeviceStateError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise DeviceStateError(
            f"{path} is damaged: move it away and give its options again (--storage, --account …);"
            " the key is not in it"
        ) from error


def save(profile: Path, settings: Settings) -> None:
    """Replace the settings, atomically and durably, mode 0600.

    Raises:
        DeviceStateError: the disk refused; what was there before is unchanged.

    """
    path = profile / FILE
    # Not msgspec's own encoder: a path may hold bytes that are no UTF-8.
    text = json.dumps(msgspec.to_builtins(settings), indent=1) + "\n"
    try:
        profile.mkdir(mode=0o700, parents=True, exist_ok=True)
        _files.replace_file(path, text.encode("ascii"))
    except OSError as error:
        raise DeviceStateError(f"cannot write {path}: {error.strerror}; it is unchanged") from error


# ---------------------------------------------------------------- what the options say


def storage_options(given: list[str] | None) -> tuple[str, ...]:
    """KEY=TEXT and KEY:=JSON of the command line, checked; names of files made absolute.

    Raises:
        typer.BadParameter: neither, or a secret where other users can read it.

    """
    kept: list[str] = []
    for each in given or ():
        key, equals, value = each.partition("=")
        if not equals or not key.removesuffix(":").isidentifier():
            raise typer.BadParameter("--storage-option is KEY=TEXT, KEY:=JSON or KEY=@FILE")
        if value.startswith("@"):
            value = "@" + os.path.abspath(value[1:])  # noqa: PTH100 - links are kept
        elif any(word in name.lower() for word in SECRET_WORDS for name in _names(key, value)):
            raise typer.BadParameter(
                f"--storage-option {key}: a secret on the command line can be read by others;"
                f" put it into a file: {key}=@FILE"
            )
        kept.append(f"{key}={value}")
    return tuple(kept)


def _names(key: str, value: str) -> Iterator[str]:
    """The option's name, and of a JSON object the names in it."""
    yield key
    if key.endswith(":"):
        with contextlib.suppress(ValueError, RecursionError):
            yield from _inner_names(json.loads(value))


def _inner_names(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _inner_names(inner)


def option_values(options: Sequence[str]) -> dict[str, object]:
    """The options for the storage, with what the files hold.

    Raises:
        typer.BadParameter: a file can't be read.
        StorageError: no JSON where there should be.

    """
    return parse_options(_from_file(each) for each in options)


def _from_file(option: str) -> str:
    key, _, value = option.partition("=")
    if not value.startswith("@"):
        return option
    held = small_file(Path(value[1:]), f"--storage-option {key}")
    try:
        text = held.decode()
    except UnicodeDecodeError:  # its message would quote the secret
        raise typer.BadParameter(f"--storage-option {key} {value[1:]}: not UTF-8") from None
    return f"{key}={text.rstrip()}"


def check_url(url: str) -> None:
    """Refuse a URL with a password in it, which every user of the machine could read.

    Raises:
        typer.BadParameter: it has one, or what may be a part of one.

    """
    try:
        storage_names.check_url(url)
    except StorageError as error:
        raise typer.BadParameter(f"--storage: {error}") from error
    if urlsplit(url).password is not None:
        raise typer.BadParameter(
            "--storage holds a password that others can read; give it by"
            " --storage-option NAME=@FILE (docs/storage.md has the names)"
        )
