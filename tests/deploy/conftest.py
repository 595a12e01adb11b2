from __future__ import annotations

import urllib.request

import pytest
from accounts import Account
from harness import Vault5, vault5, wait_until

from node import metrics_page


def scrape(vault: Vault5) -> list[str]:
    """What every node answers at /metrics."""
    answers = []
    for node in vault.ids:
        url = f"{vault.ops_url(node)}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback http
            answers.append(answer.read().decode())
    return answers


def complete(answers: list[str]) -> list[str] | None:
    """The answers, once every family in them has a sample."""
    found = metrics_page.families(answers)
    return answers if all(family.samples for family in found.values()) else None


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The /metrics of five nodes that ran, one of which was asked something."""
    with vault5(tmp_path_factory.mktemp("metrics"), shards=4) as vault:
        asker = Account(vault, "metrics")
        asker.look(1)
        asker.close()
        return wait_until(lambda: complete(scrape(vault)), "every family of metrics has a sample")
