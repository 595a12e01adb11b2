"""The deployment's own monitoring files, made quicker for a test: the same rules on a faster clock.

Every duration is divided by one factor: `for`, the windows of rates, group waits. No threshold and
no expression changes otherwise. A window never gets shorter than four scrapes, which a rate needs.
"""

from __future__ import annotations

import copy
import re
from typing import Any

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SCRAPE_MS = 1_000
"""As often as five nodes on two busy cores answer well within the time."""
EVALUATE_MS = 500
WINDOW_MS = 4 * SCRAPE_MS
DURATION = r"(\d+)(ms|s|m|h|d)"


def milliseconds(duration: str) -> int:
    found = re.fullmatch(DURATION, duration)
    assert found, f"{duration} is no duration of one unit"
    return int(found[1]) * UNITS_MS[found[2]]


def shorter(duration: str, factor: int, least_ms: int = 1) -> str:
    """A duration divided by the factor, but not below `least_ms`."""
    return f"{max(milliseconds(duration) // factor, least_ms)}ms"


def rules(document: dict[str, Any], factor: int) -> dict[str, Any]:
    """rules.yml with every `for` and every window divided by the factor."""
    quick = copy.deepcopy(document)
    for group in quick["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = shorter(rule["for"], factor)
            rule["expr"] = re.sub(
                rf"\[({DURATION})\]",
                lambda window: f"[{shorter(window[1], factor, WINDOW_MS)}]",
                rule["expr"],
            )
    return quick


def prometheus(
    document: dict[str, Any], nodes: dict[str, str], alertmanager: str
) -> dict[str, Any]:
    """prometheus.yml, its nodes and Alertmanager at these addresses; node id to host:port."""
    quick = copy.deepcopy(document)
    quick["global"] = {
        "scrape_interval": f"{SCRAPE_MS}ms",
        "scrape_timeout": f"{SCRAPE_MS}ms",
        "evaluation_interval": f"{EVALUATE_MS}ms",
    }
    quick["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    vault = next(job for job in quick["scrape_configs"] if job["job_name"] == "quorumvault")
    for place in vault["static_configs"]:
        place["targets"] = [nodes[place["labels"]["node"]]]
    quick["scrape_configs"] = [vault]
    return quick


def alertmanager(document: dict[str, Any], factor: int, url: str) -> dict[str, Any]:
    """alertmanager.yml with every wait divided by the factor; each receiver posts to `url`/NAME."""
    quick = copy.deepcopy(document)
    for route in (quick["route"], *quick["route"]["routes"]):
        for wait in ("group_wait", "group_interval", "repeat_interval"):
            if wait in route:
                route[wait] = shorter(route[wait], factor)
    for receiver in quick["receivers"]:
        assert receiver.keys() == {"name"}, "as shipped nobody is called"
        receiver["webhook_configs"] = [{"url": f"{url}/{receiver['name']}", "send_resolved": True}]
    return quick
