"""How our dashboards ask: sums of rates and quantiles, of all nodes or of those chosen above."""

from __future__ import annotations


def rate(metric: str, by: str, labels: str = "") -> str:
    """How often per second, summed."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def here(metric: str) -> str:
    """This metric of the chosen nodes."""
    return f'{metric}{{node=~"$node"}}'


def rate_here(metric: str, by: str = "node") -> str:
    """How often per second at the chosen nodes."""
    return rate(metric, by, 'node=~"$node"')


def quantile(share: float, metric: str, by: str, labels: str = "") -> str:
    """So much of all took no longer."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'le, {by}', labels)})"
