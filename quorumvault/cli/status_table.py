"""``cluster status`` as text: what a person reads in five seconds, as wide as there is room (pure).

At 80 columns everything that decides what to do is there. A narrower terminal loses columns from
the least needed on, a wider one gets more; no line is ever wrapped but the reasons.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from node.verdict import Overview, ShardLine
    from quorumvault.cli.status_rows import Row

DC_WIDTH: Final = 12
NEEDED: Final = 8
"""Columns up to this rank decide what to do; for them, blanks between columns are given up."""
GIB: Final = 1 << 30


@dataclass(frozen=True)
class Column:
    """A column; the lower its `rank`, the longer it stays."""

    title: str
    rank: int
    cell: Callable[[Row], str]
    left: bool = False


def _duration(ms: float | None) -> str:
    """Short and rounded: 20ms, 1.5s, 3m, 2h, 5d."""
    if ms is None:
        return "-"
    for limit, size, unit in ((1e3, 1, "ms"), (12e4, 1e3, "s"), (72e5, 6e4, "m"),
                              (1728e5, 36e5, "h")):  # fmt: skip
        if ms < limit:
            value = ms / size
            return f"{value:.1f}{unit}" if unit == "s" and value < 10 else f"{value:.0f}{unit}"
    return f"{ms / 864e5:.0f}d"


def _rtt(row: Row) -> str:
    if row.rtt_min_ms is None or row.rtt_max_ms is None:
        return "-"
    low, high = f"{row.rtt_min_ms:.0f}", f"{row.rtt_max_ms:.0f}"
    return low if low == high else f"{low}-{high}"


def _days(row: Row) -> str:
    return "-" if row.certificate_days is None else f"{row.certificate_days}d"


def _hsm(row: Row) -> str:
    return {"working": "ok", "unknown": "-"}.get(row.hsm, row.hsm)


def _free(row: Row) -> str:
    return "-" if row.disk_free is None else f"{row.disk_free / GIB:.1f}G"


def _uptime(row: Row) -> str:
    return _duration(None if row.uptime_s is None else row.uptime_s * 1000)


COLUMNS: Final = (
    Column("node", 0, lambda row: str(row.node)),
    Column("DC", 0, lambda row: row.dc[:DC_WIDTH], left=True),
    Column("state", 0, lambda row: row.state, left=True),
    Column("leads", 1, lambda row: str(row.leads)),
    Column("lag", 2, lambda row: "-" if row.lag is None else str(row.lag)),
    Column("heard", 5, lambda row: _duration(row.heard_ms)),
    Column("fsync", 6, lambda row: _duration(row.fsync_p99_ms)),
    Column("RTT ms", 7, _rtt),
    Column("HSM", 3, _hsm, left=True),
    Column("cert", 8, _days),
    Column("alarm", 4, lambda row: str(len(row.alarms)) if row.version else "-"),
    Column("seat", 13, lambda row: str(row.seat)),
    Column("hash", 9, lambda row: row.state_hash if row.version else "-", left=True),
    Column("disk free", 10, _free),
    Column("room", 14, lambda row: row.room if row.version else "-", left=True),
    Column("up", 11, _uptime),
    Column("version", 12, lambda row: row.version or "-", left=True),
)


def table(rows: Sequence[Row], width: int) -> list[str]:
    """A head and a line for each row, none longer than `width` if that can be."""
    cells = {
        column.title: [column.title, *(column.cell(row) for row in rows)] for column in COLUMNS
    }
    chosen, gap = _choose({title: max(map(len, texts)) for title, texts in cells.items()}, width)
    lines = []
    for number in range(len(rows) + 1):
        parts = []
        for column in chosen:
            texts = cells[column.title]
            size = max(map(len, texts))
            parts.append(texts[number].ljust(size) if column.left else texts[number].rjust(size))
        lines.append((" " * gap).join(parts).rstrip())
    return lines


def _choose(sizes: dict[str, int], width: int) -> tuple[list[Column], int]:
    """As many columns as fit, and how many blanks are between them."""
    two, one = _fitting(sizes, width, 2), _fitting(sizes, width, 1)
    crowded = sum(column.rank <= NEEDED for column in one) > sum(
        column.rank <= NEEDED for column in two
    )
    chosen, gap = (one, 1) if crowded else (two, 2)
    return [column for column in COLUMNS if column in chosen], gap


def _fitting(sizes: dict[str, int], width: int, gap: int) -> list[Column]:
    left = width + gap
    taken: list[Column] = []
    for column in sorted(COLUMNS, key=lambda each: each.rank):
        need = sizes[column.title] + gap
        if column.rank and need > left:
            break
        left -= need
        taken.append(column)
    return taken


def header(overview: Overview) -> str:
    """The verdict, and what may still fail."""
    nodes = "node" if overview.failures_tolerated == 1 else "nodes"
    return f"{overview.verdict}: {overview.failures_tolerated} more {nodes} may fail"


def why(overview: Overview, width: int) -> list[str]:
    """The reasons, wrapped."""
    return [
        line
        for reason in overview.why
        for line in textwrap.wrap(reason, max(width, 40), initial_indent="  - ",
                                  subsequent_indent="    ")
    ]  # fmt: skip


def shards_line(overview: Overview) -> str:
    """All shards in one line; what is wrong with one is among the reasons."""
    shards = overview.shards
    if not shards:
        return "shards: nobody tells"
    led = sum(line.leader is not None for line in shards)
    hashes = {line.state_hash for line in shards}
    agreement = "differ" if "differs" in hashes else "agree"
    compared = sum(line.state_hash != "unknown" for line in shards)
    known = "" if compared == len(shards) else f", {compared} of {len(shards)} shards compared yet"
    if not compared:
        agreement, known = "not compared yet", ""
    return f"shards: {led} of {len(shards)} led; state hashes {agreement}{known}"


def shard_table(shards: Sequence[ShardLine]) -> list[str]:
    """Every shard, for --shards."""
    head = (
        f"{'shard':>5}  {'leader':>6}  {'term':>6}  {'commit':>12}  {'applied':>12}  {'least':>12}"
    )
    lines = [f"{head}  bears  hash"]
    for each in shards:
        leader = "none" if each.leader is None else str(each.leader)
        lines.append(
            f"{each.shard:>5}  {leader:>6}  {each.term:>6}  {each.commit:>12}  {each.applied:>12}"
            f"  {each.applied_min:>12}  {each.tolerated:>5}  {each.state_hash}"
        )
    return lines
