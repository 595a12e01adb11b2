"""How a result is written to stdout, the same two ways for every command."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """How a result is written to stdout."""

    TABLE = "table"
    JSON = "json"
