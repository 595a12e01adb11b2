"""The dashboards as Grafana reads them, and their queries as Prometheus does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
FILES = sorted((FOLDER / "dashboards").glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def as_asked(expression: str) -> str:
    """With Grafana's variables filled in: all nodes, and a window of a test's scrapes."""
    return expression.replace("$__rate_interval", "20s").replace("$node", ".+")


def expressions(page: dict[str, Any]) -> dict[str, str]:
    """Every query of a page by the name of its panel and its letter."""
    found = {
        f"{page['uid']}: {panel['title']} {target['refId']}": as_asked(target["expr"])
        for panel in page["panels"]
        for target in panel["targets"]
    }
    for each in page["annotations"]["list"]:
        found[f"{page['uid']}: annotation {each['name']}"] = as_asked(each["expr"])
    return found
