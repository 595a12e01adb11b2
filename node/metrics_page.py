"""What running nodes answer at /metrics, as the table of docs/metrics.md.

The page is made from the answers of all nodes of a running vault, not from the code: what it lists
is there. `tests/deploy/test_metrics_page.py` compares the two, and writes the page on request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

OURS: Final = "quorumvault_"
SHAPES: Final = ("le",)
"""Labels that a histogram has by its nature."""

_HEAD: Final = """# Metrics

<!-- Made by tests/deploy/test_metrics_page.py from what running nodes answer; see there. -->

Every node answers `GET /metrics` on its ops listener, in Prometheus' text format. Counters begin at
0 with the process; times are seconds, sizes bytes. No label holds an account, a record or a
secret: `peer` is a node id, `seat` a seat, `route` a call of [the API](api.md), `code` its problem
code or `ok`. The alerts over these are in [alerts.md](alerts.md), dashboards
in [deploy/grafana](../deploy/README.md#monitoring).

Shards are replicated: what is counted "as applied here" every node counts for itself, so take the
`max` over the nodes, not the `sum`. What clients ask is counted where they asked: there the `sum`
is right. A histogram `x` has `x_bucket`, `x_sum` and `x_count`, a summary the latter two.

| Metric | Type | Labels | Meaning |
|---|---|---|---|
"""
_TAIL: Final = """
The process itself (from Prometheus' own client library): {names}.
"""


def families(answers: Iterable[str]) -> dict[str, Metric]:
    """Every family of these answers of /metrics by its name; its samples are those of all."""
    found: dict[str, Metric] = {}
    for answer in answers:
        for family in text_string_to_metric_families(answer):
            known = found.setdefault(family.name, family)
            if known is not family:
                known.samples.extend(family.samples)
    return found


def names(family: Metric) -> set[str]:
    """The names that a query may use for this family."""
    match family.type:
        case "counter":
            return {f"{family.name}_total"}
        case "histogram":
            return {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
        case "summary":
            return {f"{family.name}_{part}" for part in ("sum", "count")}
        case _:
            return {family.name}


def page(answers: Iterable[str]) -> str:
    """The whole page, in Markdown."""
    found = families(answers)
    lines = [_line(found[name]) for name in sorted(found) if name.startswith(OURS)]
    others = sorted(
        f"`{shown(family)}`" for name, family in found.items() if not name.startswith(OURS)
    )
    return _HEAD + "\n".join(lines) + "\n" + _TAIL.format(names=", ".join(others))


def shown(family: Metric) -> str:
    """The family's name as a query writes it; without a suffix where it has several."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def _line(family: Metric) -> str:
    labels = sorted({label for sample in family.samples for label in sample.labels} - {*SHAPES})
    cells = (
        f"`{shown(family)}`",
        family.type,
        ", ".join(f"`{label}`" for label in labels),
        family.documentation,
    )
    return f"| {' | '.join(cells)} |"
