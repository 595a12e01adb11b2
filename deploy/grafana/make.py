"""Write the dashboards: `python deploy/grafana/make.py` makes dashboards/*.json anew.

The JSON is what Grafana reads; the files page_*.py are what people change. What counts as bad is
what the alerts in deploy/prometheus/rules.yml say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import page_hsm
import page_network
import page_overview
import page_replication

FOLDER: Final = Path(__file__).parent / "dashboards"
PAGES: Final = {
    "overview": page_overview.page,
    "replication": page_replication.page,
    "hsm": page_hsm.page,
    "network": page_network.page,
}


def rendered() -> dict[str, str]:
    """Every dashboard by the name of its file."""
    return {f"{name}.json": json.dumps(page(), indent=1) + "\n" for name, page in PAGES.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in rendered().items():
        (FOLDER / file).write_text(text)
