"""The few kinds of panels that our dashboards have, as Grafana's JSON.

A panel says in a sentence what is looked at and what is good; a unit and, where there is a line
between good and bad, its thresholds are the alerts' own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

SCHEMA_VERSION: Final = 39
"""Of Grafana 11."""
WIDTH: Final = 24
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED = "green", "orange", "red"

Steps = tuple[tuple[float | None, str], ...]
"""From which value on which colour; None for the lowest."""
MUST_BE_0: Final[Steps] = ((None, GREEN), (1, RED))
MUST_BE_1: Final[Steps] = ((None, RED), (1, GREEN))


@dataclass(frozen=True)
class Panel:
    """One panel; `queries` are (expression, legend)."""

    title: str
    description: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    steps: Steps = ((None, GREEN),)
    width: int = 8
    height: int = 7
    least: float | None = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def render(self, number: int, x: int, y: int) -> dict[str, Any]:
        """As JSON at this place."""
        instant = self.kind in ("stat", "table")
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": value, "color": colour} for value, colour in self.steps],
            },
        }
        if self.least is not None:
            defaults["min"] = self.least
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "datasource": SOURCE,
                    "expr": expression,
                    "legendFormat": legend,
                    "instant": instant,
                    "range": not instant,
                    "format": "table" if self.kind == "table" else "time_series",
                }
                for index, (expression, legend) in enumerate(self.queries)
            ],
            "fieldConfig": {"defaults": defaults | self._custom(), "overrides": []},
            "options": self._options(),
        } | self.extra

    def _custom(self) -> dict[str, Any]:
        if self.kind == "timeseries":
            lines = "line" if len(self.steps) > 1 else "off"
            return {
                "color": {"mode": "palette-classic"},
                "custom": {"fillOpacity": 8, "thresholdsStyle": {"mode": lines}},
            }
        if self.kind == "table":
            return {"custom": {"cellOptions": {"type": "color-background"}, "align": "center"}}
        return {"color": {"mode": "thresholds"}}

    def _options(self) -> dict[str, Any]:
        if self.kind == "timeseries":
            return {
                "legend": {"displayMode": "list", "placement": "bottom"},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        if self.kind == "stat":
            return {"colorMode": "background", "graphMode": "none", "textMode": "auto"}
        if self.kind == "state-timeline":
            return {"showValue": "never", "mergeValues": True}
        return {"showHeader": True}


def stat(title: str, description: str, expression: str, steps: Steps, **more: Any) -> Panel:
    """One big number."""
    return Panel(
        title, description, ((expression, ""),), kind="stat", steps=steps, width=4, height=4, **more
    )


def matrix(title: str, description: str, expression: str, steps: Steps, **more: Any) -> Panel:
    """From each node (rows) to each other (columns)."""
    to_matrix = {
        "id": "groupingToMatrix",
        "options": {"rowField": "node", "columnField": "peer", "valueField": "Value"},
    }
    return Panel(
        title,
        description,
        ((expression, ""),),
        kind="table",
        steps=steps,
        width=12,
        height=8,
        extra={"transformations": [to_matrix]},
        **more,
    )


def states(title: str, description: str, expression: str, legend: str, **more: Any) -> Panel:
    """Good (1) or bad (0) over time, a line for each node."""
    return Panel(
        title,
        description,
        ((expression, legend),),
        kind="state-timeline",
        steps=((None, RED), (1, GREEN)),
        **more,
    )


def dashboard(uid: str, title: str, description: str, rows: list[list[Panel]]) -> dict[str, Any]:
    """A whole page; the panels of a row stand beside each other."""
    panels, y = [], 0
    for row in rows:
        x = 0
        for panel in row:
            panels.append(panel.render(len(panels) + 1, x, y))
            x += panel.width
        y += max(panel.height for panel in row)
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["quorumvault"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "links": [
            {
                "type": "dashboards",
                "tags": ["quorumvault"],
                "title": "Quorumvault",
                "asDropdown": False,
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "annotations": {"list": [_alerts_as_annotations()]},
        "templating": {"list": [_datasource(), _nodes()]},
        "panels": panels,
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"}


def _nodes() -> dict[str, Any]:
    query = 'label_values(up{job="quorumvault"}, node)'
    return {
        "name": "node",
        "label": "Node",
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "node"},
        "refresh": 2,
        "sort": 3,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }


def _alerts_as_annotations() -> dict[str, Any]:
    return {
        "name": "Pages",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": RED,
        "expr": 'ALERTS{alertstate="firing",severity="page"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{node}} {{shard}}",
        "step": "10s",
    }
